"""Index and store of many small files, here and by a Dask cluster of two workers (20 min).

    python -m benchmarks archive --files 20000 200000

Writes the given numbers of ultrasound files with 32×32 pixels, ten per patient. Fresh processes
index and decode them, once with this machine's processes and once with a cluster on loopback. Then
1 % more files are added, and both are repeated. Rows have seconds, the peak memory of the process,
and hashes of index and store.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tables import aligned

_RUN = """
import hashlib, json, re, sys, time
from pathlib import Path
from tf_dicom_ce.workers import cluster, warm_up
warm_up()
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
folder, address = sys.argv[1:]
found = {}
start = time.monotonic()
with cluster(address or None):
    data = UltrasoundDataset.from_dicom(folder, image_size=(32, 32))
    found["index s"] = time.monotonic() - start
    index = data.source.index
    found["read"] = index.read
    rows = repr([(r.path, r.patient, r.y, r.flags) for r in index.rows]).encode()
    memory = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    found["index MB"] = memory() / 1024
    start = time.monotonic()
    frames = data.source.frames
    found["store s"] = time.monotonic() - start
    found["decoded"] = frames.decoded
    found["store MB"] = memory() / 1024
pixels = hashlib.sha256()
for k in range(0, len(frames.numbers), 1000):
    pixels.update(frames.read(range(k, min(k + 1000, len(frames.numbers)))).numpy().tobytes())
found["is"] = hashlib.sha256(rows).hexdigest()[:8] + " " + pixels.hexdigest()[:8]
print(json.dumps(found))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, nargs="+", default=[20_000, 200_000])


def run(options: argparse.Namespace) -> None:
    names = ["index s", "index MB", "store s", "store MB", "read", "decoded", "is"]
    lines = [["files", "by", *names]]
    with tempfile.TemporaryDirectory() as place:
        for count in options.files:
            folder = Path(place) / f"{count}"
            write_files(folder, 0, count)
            for by in ("this machine", "Dask"):
                lines.append([f"{count}", by, *_cells(_index(folder, by, Path(place)), names)])
            write_files(folder, count, count + count // 100)
            for by in ("this machine", "Dask"):
                lines.append(["and 1 %", by, *_cells(_index(folder, by, Path(place)), names)])
            shutil.rmtree(folder)
            for by in ("this machine", "Dask"):
                shutil.rmtree(Path(place) / by)
            print(aligned(lines), flush=True)
            lines = lines[:1]


def _cells(found: dict, names: list[str]) -> list[str]:
    return [f"{found[n]:.1f}" if isinstance(found[n], float) else f"{found[n]}" for n in names]


def write_files(folder: Path, first: int, end: int) -> None:
    """Writes ultrasound files number `first` to `end` − 1, 1,000 a folder, ten a patient."""

    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    # One file, in which what differs has a fixed length.
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, "1.2.1" + "0" * 9
    dataset.StudyInstanceUID, dataset.PatientID = "1.2.2" + "0" * 9, "P" + "0" * 9
    dataset.StudyDescription, dataset.TransducerData = "US LIVER", "C5-1"
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(32 * 32)
    dataset["PixelData"].VR = "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    template = file.getvalue()[: -32 * 32]
    for number in range(first, end):
        content = template.replace(b"1.2.1" + b"0" * 9, b"1.2.1%09d" % number)
        content = content.replace(b"1.2.2" + b"0" * 9, b"1.2.2%09d" % (number // 10))
        content = content.replace(b"P" + b"0" * 9, b"P%09d" % (number // 10))
        content = content.replace(b"US LIVER", b"US CHEST" if number // 10 % 2 else b"US LIVER")
        path = folder / f"{number // 1000:05d}" / f"{number:09d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + (number.to_bytes(4, "big") * 256))


def _index(folder: Path, by: str, place: Path) -> dict:

    environment = os.environ | {"XDG_CACHE_HOME": str(place / by)}
    if by != "Dask":
        return _ask(folder, "", environment)
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        return _ask(folder, cluster.scheduler_address, environment)


def _ask(folder: Path, address: str, environment: dict) -> dict:
    command = [sys.executable, "-c", _RUN, str(folder), address]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
