"""Shows the SEG and the SR of a phantom cine in OHIF: screenshots of four frames (3 min).

    npm pack @ohif/app@3.13.2 && tar xzf ohif-app-3.13.2.tgz
    python -m benchmarks viewer --ohif package/dist --out pictures

Twelve images of the phantom make the cine, and its true masks are the answers. In each frame the
coloured pixels have to be as many as those of the masks, at the scale of the first frame; whether
they lie on the organs, eyes decide. Exits with 1 if they are not. Needs root, and Debian's orthanc,
orthanc-dicomweb and chromium; all of it runs in a network namespace of its own.
"""

import argparse
import contextlib
import csv
import http.server
import io
import json
import os
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

from benchmarks.real_results import INSIDE, URL, orthanc
from tf_dicom_ce.phantom.cohort import default_cohort
from tf_dicom_ce.results.files import write_dicom
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import open_image

PORT, FRAMES, SHOWN = 9000, 12, (0, 3, 6, 11)
MODEL = Model("truth", "1", "segmentation", ("background", "liver", "kidney"), "0" * 64, "-", True)
TOUR = ".shepherd-modal-overlay-container,.shepherd-element{display:none!important}"
THUMBNAIL = "[data-cy='study-browser-thumbnail-no-image']"
CANVAS = (slice(160, 860), slice(420, 1340))  # rows and columns of a screenshot, without buttons
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


def cine(folder: Path) -> list[np.ndarray]:
    """Writes a cine of the phantom with its SEG and SR; returns its masks."""
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
    path = folder / "cine.dcm"
    header.save_as(path, enforce_file_format=True)
    sources = [open_image(path, frame=k) for k in range(FRAMES)]
    findings = [
        Finding.of(source, {"mask": mask[source.region.slices]}, MODEL)
        for source, mask in zip(sources, masks, strict=True)
    ]
    for kind in ("seg", "sr"):
        with (folder / f"{kind}.dcm").open("wb") as file:
            write_dicom(file, kind, [(sources[0], findings)], MODEL)
    return masks


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
def viewer(ohif: Path, study: str) -> Iterator:
    """A page of Chromium in which OHIF shows a study."""
    from playwright.sync_api import sync_playwright

    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), pages(ohif))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        options = [f"--{option}" for option in (*OPTIONS, "ignore-gpu-blocklist")]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"http://127.0.0.1:{PORT}/viewer?StudyInstanceUIDs={study}")
        page.add_style_tag(content=TOUR)
        page.locator(THUMBNAIL).nth(1).wait_for(timeout=60_000)
        time.sleep(5)
        yield page
        browser.close()
    server.shutdown()
    server.server_close()


def shots(page, kind: str) -> Iterator[np.ndarray]:
    """Opens the result of a kind; screenshots of the shown frames."""
    page.locator(THUMBNAIL).filter(has_text=kind).first.dblclick()
    time.sleep(10)
    with contextlib.suppress(Exception):  # OHIF asks whether to load a SEG, or to go on measuring
        page.get_by_role("button", name="Yes" if kind == "SEG" else "No").click(timeout=5000)
    time.sleep(5)
    page.mouse.move(700, 450)
    at = 0
    for frame in SHOWN:
        for _ in range(frame - at):
            page.mouse.wheel(0, 100)
            time.sleep(0.7)
        at = frame
        time.sleep(2)
        yield np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ohif", type=Path, required=True, metavar="DIST", help="of @ohif/app")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for screenshots")


def run(options: argparse.Namespace) -> int:
    if INSIDE not in os.environ:
        again = [sys.executable, "-m", "benchmarks", "viewer"]
        again += ["--ohif", str(options.ohif), "--out", str(options.out)]
        alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
        os.execvpe(alone[0], [*alone, *again], {**os.environ, INSIDE: "1"})
    options.out.mkdir(parents=True, exist_ok=True)
    scales = []
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name)):
        masks = cine(Path(name))
        for path in Path(name).glob("*.dcm"):
            urllib.request.urlopen(f"{URL}/instances", path.read_bytes()).close()
        study = dcmread(Path(name) / "cine.dcm").StudyInstanceUID
        for kind in ("SEG", "SR"):
            with viewer(options.ohif.resolve(), study) as page:
                for frame, picture in zip(SHOWN, shots(page, kind), strict=True):
                    Image.fromarray(picture).save(options.out / f"{kind}-{frame + 1}.png")
                    if kind == "SEG":
                        colours = np.ptp(picture[CANVAS].astype(int), axis=-1)
                        scales.append((colours > 40).sum() / np.count_nonzero(masks[frame]))
                        print(f"frame {frame + 1}: {scales[-1]:.3f} coloured for a pixel of a mask")
    print(f"Screenshots: {options.out}")
    return int(max(scales) > 1.1 * min(scales))
