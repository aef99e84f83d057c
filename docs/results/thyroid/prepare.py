"""Folders for the study on real images: pretraining data, labels with a split.

  python prepare.py WRAPPED_US OUT

WRAPPED_US holds public ultrasound images as DICOM, by source, and `truth.csv` (path, dataset,
patient, mask, …). OUT receives `pretraining/`, copies of all files but those of `ddti`, and
`thyroid.csv`: the masks of `ddti`, with 60 % of the patients for training, 10 for validation and 30
for the test. So no image source is in both.
"""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np

source, out = map(Path, sys.argv[1:])
for folder in sorted(source.iterdir()):
    if folder.is_dir() and folder.name not in ("ddti", "masks"):
        shutil.copytree(folder, out / "pretraining" / folder.name)
with (source / "truth.csv").open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["dataset"] == "ddti" and row["mask"]]
patients = np.random.default_rng(0).permutation(sorted({row["patient"] for row in rows}))
test, validation = (round(share * len(patients)) for share in (0.3, 0.4))
sides = dict.fromkeys(patients[:test], "test")
sides |= dict.fromkeys(patients[test:validation], "validation")
with (out / "thyroid.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["path", "mask", "patient", "split"])
    for row in rows:
        side = sides.get(row["patient"], "train")
        table.writerow([row["path"], row["mask"], row["patient"], side])
