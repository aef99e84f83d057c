"""Compares the first and second index of a folder with pydicom and gdcm (2 min).

Reads three elements of copies of pydicom's own ultrasound files, one of which is a cine. Every turn
is a fresh process, from its start to its end, with the files in the page cache.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, at_least, ratios, spread
from benchmarks.turns import code_of, timed

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
STAGES = {"headers": 60.0}


def measure(stage: Measuring, setup: Setup) -> None:
    """Seconds of each side."""
    count, files, cache = setup.sizes.header_files, setup.folder / "data", setup.folder / "cache"
    files.mkdir()
    make_files(files, count)

    def index(checkout: Path | None = None):
        run(INDEX, files, cache, count, checkout=checkout)

    def index_anew(checkout: Path | None = None):
        shutil.rmtree(cache, ignore_errors=True)
        index(checkout)

    turns = {
        "pydicom loop": timed(lambda: run(PYDICOM, files)),
        "gdcm scanner": timed(lambda: run(GDCM, files)),
        FIRST: timed(index_anew),
        SECOND: timed(index),
    }
    if setup.against:
        turns["first index of --against"] = timed(lambda: index_anew(setup.against))
    size = sum(path.stat().st_size for path in files.rglob("*.dcm")) / count
    stage.tell(files=count, bytes=size)
    stage.take(turns)


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


def run(script: str, *arguments: object, checkout: Path | None = None) -> None:
    """A fresh process, with the code of this checkout or another."""
    words = [sys.executable, "-c", script, *map(str, arguments)]
    subprocess.run(words, check=True, cwd=checkout, env={**os.environ, **code_of(checkout)})


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Seconds, files a second, ratios."""
    return [_table(stage) for stage in stages.values()]


def _table(stage: Stage) -> Table:
    files = stage.facts["files"]
    rows = [
        [
            side,
            spread(stage.of(side)),
            spread([files / seconds for seconds in stage.of(side)]),
            "" if side == FIRST else f"{spread(ratios(stage.of(side), stage.of(FIRST)))}×",
        ]
        for side in stage.sides
    ]
    title = f"Headers of {files} files of {stage.facts['bytes'] / 1024:.0f} KiB"
    return Table(title, ("", "s", "files/s", "time against the first index"), rows)


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """Against the loop that one writes first, and against gdcm's scanner in C++."""
    return [
        at_least(f"Index: speed against a {side}", wanted, median(ratios(stage.of(side), first)))
        for stage in stages.values()
        for first in [stage.of(FIRST)]
        for side, wanted in (("pydicom loop", 1), ("gdcm scanner", 0.5))
    ]
