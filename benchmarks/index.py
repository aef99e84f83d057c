"""Compares the first and second index of a folder with pydicom and gdcm (2 min).

Reads three elements of copies of pydicom's own ultrasound files, one of which is a cine. Every turn
is a fresh process, from its start to its end, with the files in the page cache.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table, at_least, ratios, spread
from benchmarks.turns import by_turns, timed

NAMES = ("examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_palette.dcm")
PYDICOM = """
import pathlib, sys, warnings
import pydicom
warnings.simplefilter("ignore")
for path in pathlib.Path(sys.argv[1]).rglob("*.dcm"):
    header = pydicom.dcmread(path, stop_before_pixels=True)
    header.get("PatientID"), header.get("StudyDescription"), header.get("TransducerData")
"""
GDCM = """
import sys
import gdcm
directory, scanner = gdcm.Directory(), gdcm.Scanner()
directory.Load(sys.argv[1], True)
for group, element in ((0x10, 0x20), (0x8, 0x1030), (0x18, 0x5010)):
    scanner.AddTag(gdcm.Tag(group, element))
assert scanner.Scan(directory.GetFilenames())
"""
INDEX = """
import sys
from pathlib import Path
from tf_dicom_ce.workers import warm_up
warm_up()
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.intake.index import scan
index = scan(sys.argv[1], TagSchema.load("ultrasound"), cache=Path(sys.argv[2]), progress=False)
assert len(index.rows) == int(sys.argv[3]), len(index.rows)
"""
FIRST, SECOND = "first index", "second index, nothing changed"
_SECONDS = 60.0


def measure(sizes: Sizes, folder: Path) -> dict:
    """Seconds of each side."""
    files, cache = folder / "data", folder / "cache"
    files.mkdir()
    make_files(files, sizes.header_files)

    def index():
        run(INDEX, files, cache, sizes.header_files)

    def index_anew():
        shutil.rmtree(cache, ignore_errors=True)
        index()

    turns = {
        "pydicom loop": timed(lambda: run(PYDICOM, files)),
        "gdcm scanner": timed(lambda: run(GDCM, files)),
        FIRST: timed(index_anew),
        SECOND: timed(index),
    }
    measures = by_turns(turns, _SECONDS * sizes.patience, sizes.least)
    size = sum(path.stat().st_size for path in files.rglob("*.dcm")) / sizes.header_files
    seconds = {side: [m["seconds"] for m in found] for side, found in measures.items()}
    return {"files": sizes.header_files, "bytes": size, "seconds": seconds}


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


def run(script: str, *arguments: object) -> None:
    """A fresh process."""
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True)


def tables(results: dict) -> list[Table]:
    """Seconds, files a second, ratios."""
    rows = [
        [
            side,
            spread(seconds),
            spread([results["files"] / s for s in seconds]),
            "" if side == FIRST else f"{spread(ratios(seconds, results['seconds'][FIRST]))}×",
        ]
        for side, seconds in results["seconds"].items()
    ]
    title = f"Headers of {results['files']} files of {results['bytes'] / 1024:.0f} KiB"
    return [Table(title, ("", "s", "files/s", "time against the first index"), rows)]


def goals(results: dict) -> list[Goal]:
    """No slower than the loop that one writes first."""
    seconds = results["seconds"]
    faster = median(ratios(seconds["pydicom loop"], seconds[FIRST]))
    return [at_least("Index: speed against a pydicom loop", 1, faster)]
