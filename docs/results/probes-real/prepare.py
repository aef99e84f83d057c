"""Makes tables and pool of the study on real images.

    python prepare.py WRAPPED_US MORE_US OUT

WRAPPED_US has DICOM and `truth.csv` (path, dataset, patient, label, mask), MORE_US pictures and
`rows.csv` (path, patient, organ, probe). OUT gets `thyroid.csv`, `lung.csv`, `colon.csv` and
`kidney.csv`, whose patients are split 50 % test, 10 % validation; and `pool/` with `pool.csv`, all
images of no test patient.
"""

import csv
import random
import shutil
import sys
from pathlib import Path

PROBES = {"linear": "L12-5", "curvilinear": "C5-1"}


def read(path):
    """Rows of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path, columns, rows):
    """Writes a CSV."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


def sides(rows, seed):
    """Patient -> split."""
    patients = sorted({row["patient"] for row in rows})
    random.Random(seed).shuffle(patients)
    test, validation = round(0.5 * len(patients)), max(1, round(0.1 * len(patients)))
    names = ["test"] * test + ["validation"] * validation
    names += ["train"] * (len(patients) - len(names))
    return dict(zip(patients, names, strict=True))


wrapped, more, out = map(Path, sys.argv[1:])
out.mkdir(exist_ok=True)
truth, pictures = read(wrapped / "truth.csv"), read(more / "rows.csv")
thyroid = [row for row in truth if row["dataset"] == "ddti" and row["mask"]]
lung = [row for row in truth if row["dataset"] == "pocus"]
colon = [row for row in pictures if row["path"].startswith("colon") and row["mask"]]
kidney = [row for row in pictures if row["organ"] == "kidney" and row["mask"]]
tested = set()
for name, rows, what, seed in (
    ("thyroid", thyroid, "mask", 0),
    ("lung", lung, "label", 1),
    ("colon", colon, "mask", 0),
    ("kidney", kidney, "mask", 0),
):
    split = sides(rows, seed)
    tested |= {patient for patient, side in split.items() if side == "test"}
    columns = ("path", what, "patient", "split")
    table = [(row["path"], row[what], row["patient"], split[row["patient"]]) for row in rows]
    write(out / f"{name}.csv", columns, table)
for folder, rows in ((wrapped, truth), (more, pictures)):
    for row in rows:
        if row["patient"] not in tested:
            copy = out / "pool" / folder.name / row["path"]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / row["path"], copy)
table = [
    (
        f"{more.name}/{row['path']}",
        row["patient"],
        f"US {row['organ'].upper()}",
        PROBES[row["probe"]],
    )
    for row in pictures
    if row["patient"] not in tested
]
write(out / "pool.csv", ("path", "patient", "StudyDescription", "TransducerData"), table)
