// Pictures and outlines on the canvas.

/** Decodes {b64: PNG}. */
export async function readPicture({ b64 }) {
  const bytes = Uint8Array.from(atob(b64), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
}

/**
 * Draws a picture with the outlines of some classes of its mask.
 *
 * The canvas gets as many pixels as it has on the screen. The mask is of the whole source, the
 * picture of its `region` {top, left, height, width}; `outlines` is a list of {class_id, colour}.
 */
export function draw(canvas, picture, mask, { top, left, height, width }, outlines) {
  canvas.width = width;
  canvas.height = height; // first, for the page gives the canvas its shape by these
  const scale = Math.max(1, (canvas.clientWidth * devicePixelRatio) / width);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.drawImage(picture, 0, 0, width, height);
  if (!outlines.length) return;
  const classes = read(mask, top, left, height, width);
  context.lineCap = "square";
  for (const { class_id: id, colour } of outlines) {
    const path = outline(classes, width, height, id);
    for (const [style, thick] of [["#000a", 4], [colour, 2]]) {
      context.strokeStyle = style;
      context.lineWidth = (thick * devicePixelRatio) / scale;
      context.stroke(path);
    }
  }
}

function read(mask, top, left, height, width) {
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(mask, -left, -top);
  return context.getImageData(0, 0, width, height).data.filter((_, k) => k % 4 === 0);
}

/** The edges between the pixels of a class and all others, as a Path2D. */
function outline(classes, width, height, id) {
  const path = new Path2D();
  const is = (x, y) => x >= 0 && x < width && y >= 0 && y < height && classes[y * width + x] === id;
  const runs = (lines, length, isEdge, add) => {
    for (let line = 0; line <= lines; line++)
      for (let k = 0, start = -1; k <= length; k++) {
        const edge = k < length && isEdge(line, k);
        if (edge && start < 0) start = k;
        if (!edge && start >= 0) {
          add(line, start, k);
          start = -1;
        }
      }
  };
  runs(height, width, (y, x) => is(x, y - 1) !== is(x, y), (y, from, to) => {
    path.moveTo(from, y);
    path.lineTo(to, y);
  });
  runs(width, height, (x, y) => is(x - 1, y) !== is(x, y), (x, from, to) => {
    path.moveTo(x, from);
    path.lineTo(x, to);
  });
  return path;
}
