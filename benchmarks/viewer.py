"""Shows the SEG and the SR of a cine in OHIF, and looks whether they lie on the organs (1 min).

    npm pack @ohif/app@3.13.2 && tar xzf ohif-app-3.13.2.tgz
    python -m benchmarks viewer --ohif package/dist --out pictures

Twelve images of the phantom make the cine, and its true masks are the answers. A real cine may take
its place: its answers are the largest bright part of each frame. In four frames the coloured pixels
have to be where the mask is, and the outline of the report where its border is: each number printed
is the share that they have in common, and has to be 0.8 at least; else the exit code is 1. Needs
root, and Debian's orthanc, orthanc-dicomweb and chromium; all of it runs in a network namespace of
its own.
"""

import argparse
import contextlib
import csv
import http.server
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid
from scipy import ndimage

from benchmarks.real_results import INSIDE, URL, orthanc
from tf_dicom_ce.phantom.cohort import default_cohort
from tf_dicom_ce.results.files import write_dicom
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.measuring import largest_part
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import open_image

PORT, FRAMES = 9000, 12
ENOUGH = 0.8  # of what a mask and its picture have in common
SECONDS = 30  # until a frame has to be shown
MODEL = Model("truth", "1", "segmentation", ("background", "liver", "kidney"), "0" * 64, "-", True)
TOUR = ".shepherd-modal-overlay-container,.shepherd-element{display:none!important}"
THUMBNAIL = "[data-cy='study-browser-thumbnail-no-image']"
SCREEN = (900, 1400)  # rows and columns of a screenshot
CANVAS = (slice(160, 860), slice(420, 1340))  # of them, what no button covers
OPTIONS = ("no-sandbox", "use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader")
SETTINGS = {
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "orthanc",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "orthanc",
            "configuration": {
                **dict.fromkeys(("qidoRoot", "wadoRoot"), "/dicom-web"),
                **dict.fromkeys(("imageRendering", "thumbnailRendering"), "wadors"),
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


def phantom_cine(path: Path) -> list[np.ndarray]:
    """Writes a cine of the phantom; returns its masks."""
    root, frames, masks, header = default_cohort("quick"), [], [], None
    with (root / "segmentation.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            image = dcmread(root / row["path"])
            if header is None and image.SamplesPerPixel == 1:
                header = image
            if header is None:
                continue
            if (image.Rows, image.Columns) == (header.Rows, header.Columns):
                source, mask = open_image(root / row["path"]), Image.open(root / row["mask"])
                frames.append(source.in_file(source.pixels))
                masks.append(source.in_file(np.asarray(mask)[source.region.slices]))
            if len(frames) == FRAMES:
                break
    header.SOPClassUID, header.NumberOfFrames = UltrasoundMultiFrameImageStorage, FRAMES
    header.SOPInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.PixelData, header.FrameTime = np.stack(frames).tobytes(), 100
    header["PixelData"].is_undefined_length = False
    header.FrameIncrementPointer = Tag("FrameTime")
    header.save_as(path, enforce_file_format=True)
    return masks


def bright_parts(path: Path) -> list[np.ndarray]:
    """The largest bright part of each frame of a real cine, as its masks."""
    masks, frames = [], open_image(path).frames
    for k in range(frames):
        source = open_image(path, frame=k)
        smooth = ndimage.gaussian_filter(source.pixels.astype(np.float32), 6)
        part = largest_part(smooth > np.quantile(smooth, 0.85))
        masks.append(source.in_file(part.astype(np.uint8)))
    return masks


def write_results(path: Path, masks: list[np.ndarray]) -> None:
    """Writes the SEG and the SR of a cine beside it."""
    sources = [open_image(path, frame=k) for k in range(len(masks))]
    findings = [
        Finding.of(source, {"mask": mask[source.region.slices]}, MODEL)
        for source, mask in zip(sources, masks, strict=True)
    ]
    for kind in ("seg", "sr"):
        with path.with_name(f"{kind}.dcm").open("wb") as file:
            write_dicom(file, kind, [(sources[0], findings)], MODEL)


def pages(ohif: Path) -> type[http.server.SimpleHTTPRequestHandler]:
    """OHIF's files, its settings, and Orthanc's DICOMweb at one address."""

    class Pages(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/dicom-web"):
                kept = {"Accept": self.headers["Accept"] or "*/*", "Host": self.headers["Host"]}
                request = urllib.request.Request(URL + self.path, headers=kept)
                try:
                    answer = urllib.request.urlopen(request)
                except urllib.error.HTTPError as error:
                    answer = error
                self.reply(answer.status, answer.headers["Content-Type"], answer.read())
            elif self.path.startswith("/app-config.js"):
                content = f"window.config = {json.dumps(SETTINGS)};".encode()
                self.reply(200, "text/javascript", content)
            else:
                if not (ohif / self.path.partition("?")[0].lstrip("/")).is_file():
                    self.path = "/index.html"
                super().do_GET()

        def reply(self, status: int, kind: str | None, content: bytes):
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return lambda *args: Pages(*args, directory=str(ohif))


@contextlib.contextmanager
def viewer(ohif: Path) -> Iterator:
    """Chromium, and OHIF for it."""
    from playwright.sync_api import sync_playwright

    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), pages(ohif))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        options = [f"--{option}" for option in (*OPTIONS, "ignore-gpu-blocklist")]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        yield browser
        browser.close()
    server.shutdown()
    server.server_close()


def on_screen(mask: np.ndarray, page) -> np.ndarray:
    """A mask as the viewer is to show it, on a screenshot: as large as fits, in the middle."""
    box = page.locator(".cornerstone-viewport-element, .cornerstone-canvas").first.bounding_box()
    scale = min(box["width"] / mask.shape[1], box["height"] / mask.shape[0])
    middle = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
    at = [
        np.floor((np.arange(size) + 0.5 - centre) / scale + length / 2).astype(int)
        for size, centre, length in zip(SCREEN, middle, mask.shape, strict=True)
    ]
    inside = [(k >= 0) & (k < length) for k, length in zip(at, mask.shape, strict=True)]
    rows, columns = (k.clip(0, length - 1) for k, length in zip(at, mask.shape, strict=True))
    return np.where(np.outer(*inside), mask[np.ix_(rows, columns)], 0)


def in_common(picture: np.ndarray, mask: np.ndarray, kind: str) -> float:
    """How well a picture shows a mask: intersection over union, or the share of its border."""
    coloured, mask = (one[CANVAS] for one in (np.ptp(picture.astype(int), axis=-1) > 40, mask))
    if kind == "SEG":
        return (coloured & (mask > 0)).sum() / (coloured | (mask > 0)).sum()
    border = (mask > 0) & ~ndimage.binary_erosion(mask > 0)
    dashes = ndimage.binary_dilation(coloured, iterations=5)
    return (border & dashes).sum() / border.sum()


def shots(
    browser, study: str, kind: str, masks: list[np.ndarray]
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Opens the result of a kind; of some frames number, screenshot, and how well it fits."""
    page = browser.new_page(viewport={"width": SCREEN[1], "height": SCREEN[0]})
    page.goto(f"http://127.0.0.1:{PORT}/viewer?StudyInstanceUIDs={study}")
    page.add_style_tag(content=TOUR)
    page.locator(THUMBNAIL).nth(1).wait_for(timeout=60_000)
    page.locator(THUMBNAIL).filter(has_text=kind).first.dblclick()
    with contextlib.suppress(Exception):  # OHIF asks whether to load a SEG, or to go on measuring
        page.get_by_role("button", name="Yes" if kind == "SEG" else "No").click(timeout=10_000)
    page.mouse.move(700, 450)
    at, last = 0, len(masks) - 1
    for frame in sorted({0, len(masks) // 4, len(masks) // 2, last}):
        for _ in range(frame - at):
            page.mouse.wheel(0, 100)
            time.sleep(0.2)
        at, until = frame, time.monotonic() + SECONDS
        while True:
            picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            fit = in_common(picture, on_screen(masks[frame], page), kind)
            if fit >= ENOUGH or time.monotonic() > until:
                break
            time.sleep(0.5)
        yield frame + 1, picture, fit
    page.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cine", type=Path, nargs="?", metavar="FILE", help="a real cine")
    parser.add_argument("--ohif", type=Path, required=True, metavar="DIST", help="of @ohif/app")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for screenshots")


def run(options: argparse.Namespace) -> int:
    if INSIDE not in os.environ:
        again = [sys.executable, "-m", "benchmarks", "viewer"]
        again += ["--ohif", str(options.ohif), "--out", str(options.out)]
        again += [str(options.cine)] if options.cine else []
        alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
        os.execvpe(alone[0], [*alone, *again], {**os.environ, INSIDE: "1"})
    options.out.mkdir(parents=True, exist_ok=True)
    fits = []
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name)):
        path = Path(name) / "cine.dcm"
        if options.cine:
            shutil.copyfile(options.cine, path)
        masks = bright_parts(path) if options.cine else phantom_cine(path)
        write_results(path, masks)
        for file in Path(name).glob("*.dcm"):
            urllib.request.urlopen(f"{URL}/instances", file.read_bytes()).close()
        study = dcmread(path, stop_before_pixels=True).StudyInstanceUID
        with viewer(options.ohif.resolve()) as browser:
            for kind in ("SEG", "SR"):
                for frame, picture, fit in shots(browser, study, kind, masks):
                    Image.fromarray(picture).save(options.out / f"{kind}-{frame}.png")
                    print(f"{kind}, frame {frame}: {fit:.3f}", flush=True)
                    fits.append(fit)
    print(f"Screenshots: {options.out}")
    return int(min(fits) < ENOUGH)
