"""How fast an index of 10,000 files is made, beside a plain pydicom loop over the same files.

    python benchmarks/index_speed.py [--files 10000] [--rounds 5]

Writes copies of pydicom's own ultrasound files (one of them a cine), then alternates: the plain
loop (`dcmread(stop_before_pixels=True)` and three elements), the first index (empty cache) and the
second (nothing changed). Prints medians, ranges and ratios.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

NAMES = ("examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_palette.dcm")
PLAIN = """
import pathlib, sys, warnings
import pydicom
warnings.simplefilter("ignore")
for path in pathlib.Path(sys.argv[1]).rglob("*.dcm"):
    header = pydicom.dcmread(path, stop_before_pixels=True)
    header.get("PatientID"), header.get("StudyDescription"), header.get("TransducerData")
"""
INDEX = """
import sys
from pathlib import Path
from tf_dicom_ce.workers import warm_up
warm_up()
from tf_dicom_ce.dicom.tags import TagSchema
from tf_dicom_ce.intake.index import scan
index = scan(sys.argv[1], TagSchema.load("ultrasound"), cache=Path(sys.argv[2]), progress=False)
assert len(index.rows) == int(sys.argv[3]), len(index.rows)
"""


def make_files(folder: Path, count: int) -> None:
    """Copies of real files with tags, patients and UIDs of their own."""
    rng = np.random.default_rng(0)
    originals = [dcmread(get_testdata_file(name, download=False)) for name in NAMES]
    for k in range(count):
        dataset = originals[k % len(originals)]
        dataset.PatientID = f"P{rng.integers(count // 8)}"
        dataset.StudyDescription = ("US LIVER", "US THYROID", "US CHEST", "")[k % 4]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / f"{k % 100:02d}" / f"{k:05d}.dcm"
        path.parent.mkdir(exist_ok=True)
        dataset.save_as(path)


def seconds(script: str, *arguments: object) -> float:
    """Wall time of a fresh process, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"plain": [], "first index": [], "second index": []}
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name, "data"), Path(name, "cache")
        folder.mkdir()
        make_files(folder, options.files)
        size = sum(path.stat().st_size for path in folder.rglob("*.dcm")) / options.files
        print(f"{options.files} files of {size / 1024:.0f} KiB on average")
        seconds(PLAIN, folder)  # into the page cache
        for _ in range(options.rounds):
            shutil.rmtree(cache, ignore_errors=True)
            times["plain"].append(seconds(PLAIN, folder))
            times["first index"].append(seconds(INDEX, folder, cache, options.files))
            times["second index"].append(seconds(INDEX, folder, cache, options.files))
    for what, values in times.items():
        print(
            f"{what:13} {statistics.median(values):6.2f} s  "
            f"({min(values):.2f} to {max(values):.2f})"
        )
    ratio = statistics.median(times["plain"]) / statistics.median(times["first index"])
    print(f"plain / first index: {ratio:.2f}")


if __name__ == "__main__":
    main()
