// The page: a file goes to POST v1/models/NAME/dicom, and what comes back is shown.

import { draw, readPicture } from "./drawing.js";
import { Problem, ask } from "./server.js";

const $ = (id) => document.getElementById(id);
const TASKS = {
  segmentation: { file: "Save as DICOM SEG", meaning: "Share of the image that the model saw." },
  classification: { file: "Save as DICOM SR", meaning: "Probability by the model." },
};
const CALIBRATED = "Area, longest diameter, and the extent across it.";

let models = [];
let file = null; // what is looked at
let shown = null; // what the page shows: a file, what more was asked, the answer, picture and mask
let running = new AbortController(); // the newest question
let again = () => {}; // what "Try again" does

const percent = (x) => `${(100 * x).toFixed(1)} %`;

function say(words) {
  $("status").textContent = words;
}

function complain(problem, retry) {
  if (problem.name === "AbortError") return; // a newer question is under way
  say("");
  if (problem.status === 401) {
    $("access").hidden = false;
    $("token").focus();
  }
  $("retry").textContent = problem.status === 409 ? "Look at it all the same" : "Try again";
  $("error-words").textContent = problem instanceof Problem ? problem.message : `This page failed: ${problem.message}`;
  $("retry").hidden = problem.status === 401;
  again = retry;
}

function calm() {
  $("error-words").textContent = "";
  if (document.activeElement === $("retry")) $("file").focus(); // the button goes
  $("retry").hidden = true;
}

async function loadModels() {
  calm();
  try {
    const response = await ask("v1/models");
    models = (await response.json()).models.filter((one) => one.task in TASKS);
    if (!models.length) throw new Problem(0, "The server has no model for images yet.");
  } catch (problem) {
    return complain(problem, loadModels);
  }
  $("model").replaceChildren(...models.map((one) => new Option(`${one.name}, version ${one.version}`)));
  $("model").disabled = false;
  if (!$("access").hidden) $("model").focus();
  $("access").hidden = true;
  if (file) await look();
}

function answerTo(body, { name, version }, query, options) {
  const path = `v1/models/${encodeURIComponent(name)}/versions/${version}/dicom?${new URLSearchParams(query)}`;
  return ask(path, { body, ...options });
}

/** Asks for the answer to `file` (to a frame from 0; the middle one if not given) and shows it. */
async function look(frame, more = {}) {
  if (!file || !models.length) return;
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const asked = file;
  calm();
  say(`Looking at ${file.name} …`);
  $("result").setAttribute("aria-busy", "true");
  try {
    const query = { picture: "true", ...(frame === undefined ? {} : { frame }), ...more };
    const response = await answerTo(asked, models[$("model").selectedIndex], query, { signal });
    const answer = await response.json();
    const picture = await readPicture(answer.picture);
    const mask = answer.mask && (await readPicture(answer.mask));
    if (signal.aborted) return;
    shown = { file: asked, more, answer, picture, mask };
    show();
  } catch (problem) {
    if (signal.aborted) return;
    if (frame === undefined) $("result").hidden = true;
    else showFrame();
    complain(problem, () => look(frame, problem.status === 409 ? { unfamiliar: "true" } : more));
  }
  $("result").removeAttribute("aria-busy");
}

function show() {
  const { answer } = shown;
  const { name, version, task, synthetic } = answer.model;
  const isMask = task === "segmentation";
  const found = isMask ? answer.classes.filter((one) => one.colour) : answer.classes;
  const words = isMask
    ? found.map((one) => `${one.name} ${size(one)}`).join(", ")
    : `Class ${answer.class} (${found.map((one) => `${one.name}: ${percent(one.probability)}`).join(", ")})`;

  $("result").hidden = false;
  $("result-title").textContent = isMask ? `${name}, version ${version}` : `Class ${answer.class}`;
  $("synthetic").hidden = !synthetic;
  $("unfamiliar").hidden = !(answer.familiarity < answer.model.threshold);
  $("familiarity").hidden = answer.familiarity === undefined;
  $("familiarity").textContent = `Familiarity of the image: ${answer.familiarity?.toFixed(2)} (like those in training: ${answer.model.threshold} and more).`;
  const isCalibrated = found.some((one) => one.area_cm2 !== undefined);
  $("meaning").textContent = isCalibrated ? CALIBRATED : TASKS[task].meaning;
  $("classes").replaceChildren(...found.map(isMask ? legend : bar));
  $("canvas").setAttribute("aria-label", isMask ? `The image with outlines: ${words}` : "The image");
  $("save-dicom").textContent = TASKS[task].file;
  $("save-dicom").hidden = answer.image.format !== "dicom";
  $("save-report").hidden = !isMask || answer.image.format !== "dicom";
  $("save-picture").hidden = !isMask;
  const where = showFrame();
  redraw();
  say(`${words}${where}.`);
}

/** Sets the slider to the frame on the page; returns words for it. */
function showFrame() {
  const { frame, frames } = shown.answer.image;
  $("frames").hidden = frames < 2;
  for (const input of [$("slider"), $("number")]) {
    input.max = frames;
    input.value = frame + 1;
  }
  $("count").textContent = `of ${frames}`;
  return frames > 1 ? `, in frame ${frame + 1} of ${frames}` : "";
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** What a class measures, where the image is calibrated; else its share of the region. */
function size({ share, area_cm2: area, longest_mm: longest, perpendicular_mm: perpendicular }) {
  return area === undefined ? percent(share) : `${area.toFixed(1)} cm², ${longest.toFixed(1)} × ${perpendicular.toFixed(1)} mm`;
}

function legend({ class_id: id, name, colour, ...measured }) {
  const box = element("input", { type: "checkbox", checked: true, value: id, onchange: redraw });
  const swatch = element("span", { className: "swatch" });
  swatch.style.setProperty("--colour", colour);
  return element("li", {}, element("label", {}, box, swatch, name, element("span", { className: "value" }, size(measured))));
}

function bar({ name, probability }) {
  const part = element("span", {});
  part.style.setProperty("--part", `${100 * probability}%`);
  const className = name === shown.answer.class ? "name best" : "name";
  const line = element("div", { className }, name, element("span", { className: "value" }, percent(probability)));
  return element("li", {}, line, element("div", { className: "bar", ariaHidden: "true" }, part));
}

function redraw() {
  if (!shown) return;
  const chosen = [...$("classes").querySelectorAll(":checked")].map((box) => Number(box.value));
  const outlines = shown.answer.classes.filter((one) => chosen.includes(one.class_id));
  draw($("canvas"), shown.picture, shown.mask, shown.answer.image.region, outlines);
}

async function save(accept, more = {}) {
  calm();
  say("Making the file …");
  try {
    const { file: asked, answer } = shown;
    const query = { frame: answer.image.frame, unfamiliar: "true", ...more }; // it is shown already
    const response = await answerTo(asked, answer.model, query, { accept });
    const name = /filename="(.+)"/.exec(response.headers.get("Content-Disposition"))[1];
    const href = URL.createObjectURL(await response.blob());
    element("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
    say(`${name} is saved.`);
  } catch (problem) {
    complain(problem, () => save(accept, more));
  }
}

function take(files) {
  if (!files.length) return;
  $("file").files = files; // for its name, if it was dropped or pasted
  file = files[0];
  look();
}

let soon;
function turnTo(event) {
  const wanted = Math.min(Math.max(1, Math.round(event.target.value) || 1), Number(event.target.max));
  for (const input of [$("slider"), $("number")]) if (input !== event.target) input.value = wanted;
  clearTimeout(soon);
  soon = setTimeout(() => look(wanted - 1, shown.more), 250);
}

$("file").addEventListener("change", () => take($("file").files));
$("model").addEventListener("change", () => look());
$("slider").addEventListener("input", turnTo);
$("number").addEventListener("input", turnTo);
$("retry").addEventListener("click", () => again());
$("save-dicom").addEventListener("click", () => save("application/dicom"));
$("save-report").addEventListener("click", () => save("application/dicom", { report: "true" }));
$("save-picture").addEventListener("click", () => save("image/png"));
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  ask.token = $("token").value;
  loadModels();
});
addEventListener("resize", redraw);
addEventListener("paste", (event) => take(event.clipboardData.files));
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
loadModels();
