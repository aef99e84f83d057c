"""Stores SEG and SR of real files in a real Orthanc, fetches and compares them (3 min).

    python -m benchmarks real_results ../shared/data/real_us

Untrained heads predict every frame that can be read. Sources and results are stored by STOW-RS; the
results are fetched by WADO-RS and compared with the predictions. Prints counts by kind, and faults;
exits with 1 if there are faults. Needs root, and Debian's orthanc, orthanc-dicomweb and
dicom3tools. Orthanc runs in its own network namespace, because it listens on every interface.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from benchmarks.served import CLASSES, export_untrained
from benchmarks.tables import aligned
from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.dicomweb_server import Credentials, RefusedError, Server
from tf_dicom_ce.intake.index import Index, scan
from tf_dicom_ce.prediction.folder import open_results
from tf_dicom_ce.prediction.stow import store
from tf_dicom_ce.results.source import open_image
from tf_dicom_ce.tags.schema import TagSchema

URL = "http://127.0.0.1:8042"
INSIDE = "TF_DICOM_CE_IN_NAMESPACE"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[None]:
    """Runs an empty Orthanc without a password; it keeps its files below `folder`."""
    settings = {"StorageDirectory": str(folder), "IndexDirectory": str(folder)}
    settings |= {"DicomServerEnabled": False, "AuthenticationEnabled": False, "Plugins": [PLUGIN]}
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["Orthanc", configuration], stdout=log, stderr=log)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{URL}/system").close()
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


class Remembering:
    """A head that keeps its answers."""

    def __init__(self, head):
        self.model, self.find_sector, self._head = head.model, head.model.find_sector, head
        self.answers: list[dict[str, np.ndarray]] = []

    def answer(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        found = self._head.answer(pixels)
        self.answers += found
        return found


def faults(result: Dataset, row: dict[str, str], path: Path, answer: dict) -> list[str]:
    """Differences from the head's answers, and the errors of dciodvfy."""
    found = []
    if result.Modality == "SEG":
        mask = open_image(path, frame=int(row["frame"])).in_file(answer["mask"])
        classes = np.arange(1, len(CLASSES["segmentation"]))
        if not np.array_equal(result.pixel_array, mask == classes[:, None, None]):
            found.append("other pixels")
    else:
        values = [e.value[0] for e in result.iterall() if e.keyword == "MeasuredValueSequence"]
        said = [float(value.NumericValue) for value in values]
        if said != [round(float(p), 6) for p in answer["probabilities"]]:
            found.append("other probabilities")
    with tempfile.NamedTemporaryFile() as file:
        result.save_as(file, enforce_file_format=True)
        file.flush()
        done = subprocess.run(["dciodvfy", file.name], capture_output=True, errors="replace")
    return found + [line for line in done.stderr.splitlines() if line.startswith("Error")]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def compare(task: str, index: Index, folder: Path, counts: Counter) -> Iterator[str]:
    """Predicts, stores, fetches and compares; counts results, and yields faults."""
    from tf_dicom_ce.prediction.batch import Head, predict  # TensorFlow takes its time

    version = export_untrained(folder, FinetuneConfig(task=task, image_size=(64, 96), width=1 / 16))
    head, out = Remembering(Head(version)), folder / f"out-{task}"
    reader = ImageReader(index.root, index.schema.sop_classes, head.model.find_sector)
    with open_results(out, head.model, reader):
        done = predict(index, head, out, "all", reader)
    stored = store(f"{URL}/dicom-web", Credentials(), out, done.dicom, progress=False)
    counts.update(results=done.new, refused=stored.refused)
    paths = {row["file"]: index.root / row["path"] for row in rows_of(out / "files.csv")}
    rows = rows_of(out / "predictions.csv")
    with Server(f"{URL}/dicom-web") as server:
        for row, answer in zip(rows, head.answers, strict=True):
            written, back, path = out / row["dicom"], folder / "back", paths[row["file"]]
            ids = dcmread(written)
            place = f"{ids.StudyInstanceUID}/series/{ids.SeriesInstanceUID}"
            try:
                server.save(f"/studies/{place}/instances/{ids.SOPInstanceUID}", back)
            except RefusedError as error:
                yield f"{task} {path.name} {row['frame']}: not given back ({error})"
                continue
            with quiet():
                result, source = dcmread(back), dcmread(path, stop_before_pixels=True)
                wrong = faults(result, row, path, answer)
                same_study = result.StudyInstanceUID == source.StudyInstanceUID
            same = back.read_bytes() == written.read_bytes()
            counts.update(fetched=1, identical=same, right=not wrong, in_study=same_study)
            yield from (f"{task} {path.name} {row['frame']}: {fault}" for fault in wrong)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FOLDER")


def run(options: argparse.Namespace) -> int:
    if INSIDE not in os.environ:
        again = [sys.executable, "-m", "benchmarks", "real_results", str(options.source)]
        alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
        os.execvpe(alone[0], [*alone, *again], {**os.environ, INSIDE: "1"})
    columns = ("results", "refused", "fetched", "identical", "right", "in_study")
    table, wrong = [["", *columns]], []
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name)):
        sources = Path(name) / "sources"
        shutil.copytree(options.source, sources)
        index = scan(sources, TagSchema.load("ultrasound"), progress=False)
        files = sorted({row.path for row in index.rows})
        store(f"{URL}/dicom-web", Credentials(), sources, files, progress=False)
        for task in CLASSES:
            counts = Counter()
            wrong += compare(task, index, Path(name), counts)
            table.append([task, *(str(counts[column]) for column in columns)])
    print(f"{len(files)} files")
    print(aligned(table))
    for fault in wrong:
        print(fault)
    return 1 if wrong or any(row[1] != row[4] for row in table[1:]) else 0
