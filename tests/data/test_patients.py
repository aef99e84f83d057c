"""Whose the labelled images are, by hand; the same as pretraining sees them."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.data.splits import write_split
from tf_dicom_ce.data.tasks import load_task
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema

CONFIG = FinetuneConfig(image_size=(32, 32), width=1 / 32)


@pytest.fixture
def load(tmp_path):
    """Loads labels of the files in `data`: rows of path, label and more columns."""

    def load_rows(rows, header="path,label", **changes):
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
        config = dataclasses.replace(CONFIG, **changes)
        data = tmp_path / "data"
        return load_task(config, tmp_path / "labels.csv", data, None, tmp_path / "cache")

    return load_rows


def noise(k):
    return np.random.default_rng(k).integers(0, 256, (20, 30), dtype=np.uint8)


def on_both_sides(task):
    sides = [set(task.patients[rows]) for rows in task.split.sides.values()]
    return sides[0] & sides[2] | sides[1] & sides[2] | sides[0] & sides[1]


def fingerprints(task):
    return task.frames.fingerprint, task.labels_fingerprint


def test_the_header_tells_patients_as_in_pretraining(load, write, tmp_path):
    """20 patients of 4 files each; the labels do not name them."""
    order = np.random.default_rng(0).permutation(80)
    for k in order:
        write(f"data/{k:02d}", noise(k), PatientID=f"P{order[k] % 20}", StudyInstanceUID=f"1.{k}")
    rows = [(f"{k:02d}", k % 2) for k in range(80)]
    index = scan(tmp_path / "data", TagSchema.load("ultrasound"), progress=False)
    for seed in range(20):
        task = load(rows, seed=seed)
        assert len(set(task.patients)) == 20
        assert not on_both_sides(task)
    assert task.patients.tolist() == [row.patient for row in index.rows]
    assert [e.patient for e in task.examples] == [row.pseudonym for row in index.rows]


def test_pictures_without_a_patient_are_told(load, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for k in range(24):
        Image.fromarray(noise(k)).save(tmp_path / "data" / f"{k}.png")
    assert len(set(load([(f"{k}.png", k % 2) for k in range(24)]).patients)) == 24
    assert "WARNING: 24 images have no patient" in capsys.readouterr().err
    rows = [(f"./{k}.png", k % 2, f"P{k // 2}" if k < 4 else "") for k in range(24)]
    task = load(rows, "path,label,patient")
    assert task.patients.tolist() == [0, 0, 1, 1, *range(2, 22)]
    assert [example.path for example in task.examples[:2]] == ["0.png", "1.png"]
    assert [example.patient for example in task.examples[:4]] == ["P0", "P0", "P1", "P1"]
    assert "WARNING: 20 images have no patient" in capsys.readouterr().err


def test_labels_and_headers_together(load, write, capsys):
    for k in range(24):
        write(f"data/{k:02d}", noise(k), PatientID=f"P{k // 2}", StudyInstanceUID=f"1.{k // 2}")
    write("data/24", noise(24), PatientID="ANON", StudyInstanceUID="1.11")
    rows = [(f"{k:02d}", k % 2, "Anna" if k == 0 else "") for k in range(25)]
    task = load(rows, "path,label,patient")
    # 0 is Anna's by the labels, 1 is of the same ID and study; 24 is of the study of 22 and 23.
    assert task.patients.tolist() == [*np.repeat(range(12), 2), 11]
    assert [example.patient for example in task.examples[:2]] == ["Anna", "Anna"]
    assert "1 files: Patient ID is a placeholder" in capsys.readouterr().err


def test_a_class_name_that_stands_twice(load, write, tmp_path):
    write("data/0", noise(0))
    (tmp_path / "labels.csv").write_text("path,label\n0,a\n")
    with pytest.raises(UserError, match="--class-names a a: a name occurs twice"):
        load_task(CONFIG, tmp_path / "labels.csv", tmp_path / "data", ("a", "a"), tmp_path / "c")


def test_a_patient_in_two_splits(load, write):
    for k in range(4):
        write(f"data/{k}", noise(k), PatientID=f"P{k % 3}")
    rows = [(k, k % 2, split) for k, split in enumerate(["train", "val", "test", "test"])]
    message = "line 5: this patient is in test, and in train in labels.csv, line 2"
    with pytest.raises(UserError, match=message):
        load(rows, "path,label,split")


def test_an_image_of_two_patients(load, write):
    cine = np.stack([noise(k) for k in range(3)])
    write("data/a", cine[0], NumberOfFrames=3, PixelData=cine.tobytes())
    with pytest.raises(UserError, match=r"line 3: 'a' has another patient than in .*line 2"):
        load([("a", 0, 1, "P"), ("a", 1, 1, "Q")], "path,frame,label,patient")


def test_copies_count_once_and_contradictions_are_told(load, write, tmp_path, capsys):
    for k in range(24):
        write(f"data/{k:02d}", noise(k), PatientID=f"P{k}")
    for k, name in ((0, "copy"), (1, "other")):
        shutil.copy(tmp_path / "data" / f"{k:02d}", tmp_path / "data" / name)
    rows = [*((f"{k:02d}", k % 2) for k in range(24)), ("copy", 0), ("other", 0)]
    task = load(rows)
    # `other` is image 1 with another label: both stay, with one patient.
    assert [example.path for example in task.examples[23:]] == ["23", "other"]
    assert task.patients.tolist() == [*range(24), 1]
    said = capsys.readouterr().err
    assert "1 images are copies of others and do not count." in said
    assert "WARNING: labels.csv, line 27: the same image as in labels.csv, line 3 with ano" in said


def test_copies_of_masks(load, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for k in range(12):
        Image.fromarray(noise(k)).save(tmp_path / "data" / f"{k}.png")
        Image.fromarray((noise(k) > 128).astype(np.uint8)).save(tmp_path / "data" / f"{k}_mask.png")
    for name in ("0.png", "0_mask.png"):
        shutil.copy(tmp_path / "data" / name, tmp_path / "data" / f"copy{name}")
    rows = [(f"{k}.png", f"{k}_mask.png", f"P{k}") for k in range(12)]
    more = [*rows, ("copy0.png", "copy0_mask.png", "P12")]
    task = load(more, "path,mask,patient", task="segmentation")
    assert len(task.examples) == 12
    same = load(rows, "path,mask,patient", task="segmentation")
    assert fingerprints(task) == fingerprints(same)
    # The same picture with another mask, of an allegedly other patient.
    more[-1] = ("copy0.png", "1_mask.png", "P12")
    task = load(more, "path,mask,patient", task="segmentation")
    assert task.patients.tolist() == [*range(12), 0]


def test_the_fingerprint_is_of_content(load, write, tmp_path):
    for k in range(24):
        write(f"data/{k:02d}", noise(k), PatientID=f"P{k}")
    rows = [(f"{k:02d}", k % 2) for k in range(24)]
    before = fingerprints(load(rows))
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "data", copy_function=shutil.copyfile)
    assert fingerprints(load(rows)) == before
    images, labels = fingerprints(load([*rows[:-1], ("23", 0)]))  # another label
    assert (images, labels != before[1]) == (before[0], True)
    patients = [(*row, f"Q{k // 2}") for k, row in enumerate(rows)]
    images, labels = fingerprints(load(patients, "path,label,patient"))
    assert (images, labels != before[1]) == (before[0], True)


def test_the_split_is_written(load, write, tmp_path):
    for k in range(20):
        write(f"data/{k:02d}", noise(k), PatientID=f"P{k // 2}")
    task = load([(f"{k:02d}", k // 2 % 2) for k in range(20)], label_fraction=0.5)
    path = tmp_path / "split.csv"
    write_split(path, task.examples, [e.patient for e in task.examples], task.split)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(rows[0]) == ["path", "patient", "split"]
    assert [row["path"] for row in rows] == [f"{k:02d}" for k in range(20)]
    for side, chosen in task.split.sides.items():
        assert [k for k, row in enumerate(rows) if row["split"] == side] == chosen.tolist()
    used = sum(len(chosen) for chosen in task.split.sides.values())
    assert sum(row["split"] == "unused" for row in rows) == 20 - used > 0
    of = {
        row["patient"]: {r["split"] for r in rows if r["patient"] == row["patient"]} for row in rows
    }
    assert len(of) == 10
    assert all(len(sides) == 1 for sides in of.values())
