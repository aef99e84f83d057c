"""Pretraining images and labels for the study on real images.

  python prepare.py WRAPPED_US OUT

WRAPPED_US holds public ultrasound images as DICOM, by source, and `truth.csv` (path, dataset,
patient, label, mask, …). OUT receives labels with 60 % of the patients for training, 10 for
validation and 30 for the test, and the files of all other sources:

  thyroid.csv    masks of thyroid nodules (source `ddti`)
  lung.csv       regular, bacterial pneumonia or COVID-19 (source `pocus`; its four patients of
                 viral pneumonia are too few for three sides)
  pretraining/   so no source is in both
"""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np

TASKS = {"ddti": ("thyroid", "mask"), "pocus": ("lung", "label")}


def write_labels(path: Path, rows: list[dict], target: str) -> None:
    """Writes a labels CSV with a split by patient, in the same proportions for every class."""
    rng = np.random.default_rng(0)
    sides = {}
    for name in sorted({row["label"] for row in rows}):
        patients = rng.permutation(sorted({r["patient"] for r in rows if r["label"] == name}))
        test, validation = (round(share * len(patients)) for share in (0.3, 0.4))
        sides |= dict.fromkeys(patients[validation:], "train")
        sides |= dict.fromkeys(patients[test:validation], "validation")
        sides |= dict.fromkeys(patients[:test], "test")
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", target, "patient", "split"])
        for row in rows:
            table.writerow([row["path"], row[target], row["patient"], sides[row["patient"]]])


source, out = map(Path, sys.argv[1:])
for folder in sorted(source.iterdir()):
    if folder.is_dir() and folder.name not in (*TASKS, "masks"):
        shutil.copytree(folder, out / "pretraining" / folder.name)
with (source / "truth.csv").open(newline="") as file:
    truth = [row for row in csv.DictReader(file) if row["label"] != "viral_pneumonia"]
for dataset, (task, target) in TASKS.items():
    rows = [row for row in truth if row["dataset"] == dataset and row[target]]
    write_labels(out / f"{task}.csv", rows, target)
