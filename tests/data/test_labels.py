"""Each mistake in labels or masks: one message that names the line."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.data.labels import class_labels, match_masks, read_labels
from tf_dicom_ce.data.splits import nested_fraction, split_labelled
from tf_dicom_ce.data.tasks import load_task
from tf_dicom_ce.errors import UserError

CONFIG = FinetuneConfig(image_size=(32, 32), width=1 / 32)


@pytest.fixture
def table(tmp_path):
    """Writes a labels CSV beside 30 images of 15 patients, `data/00.png` …"""
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for k in range(30):
        pixels = rng.integers(0, 256, (40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{k:02d}.png")

    def write(text):
        (tmp_path / "labels.csv").write_text(text)
        return tmp_path / "labels.csv", tmp_path / "data"

    return write


def rows(label=lambda k: k % 3, split=None):
    header = "path,label,patient" + (",split" if split else "")
    lines = [
        f"{k:02d}.png,{label(k)},p{k // 2}" + (f",{split(k)}" if split else "") for k in range(30)
    ]
    return "\n".join([header, *lines]) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n00.png,1\n", "no column 'path'. The columns are: file, label"),
        ("path,label\n00.png,1\nnone.png,2\n", "line 3: no file 'none.png'"),
        ("path,label\n00.png,1\n./00.png,2\n", "line 3: '00.png' is in labels.csv, line 2"),
        ("path,label,split\n00.png,1,dev\n", "line 2: split 'dev': choose from"),
        ("path,label\n00.png,\n", "no row has a label"),
        (
            "path,label,patient,split\n00.png,1,a,train\n01.png,1,b,\n",
            "'split' is filled in for some rows only",
        ),
    ],
)
def test_mistakes_in_the_table(table, text, message):
    with pytest.raises(UserError) as error:
        read_labels(*table(text), "label")
    assert message in str(error.value)


def test_classes_by_number_by_name_and_by_order(table):
    examples = read_labels(*table(rows(lambda k: [10, "2.0", 9][k % 3])), "label")
    names, labels = class_labels(examples, None, ordinal=True)
    assert names == ("2", "9", "10")
    np.testing.assert_array_equal(labels[:3], [2, 0, 1])
    examples = read_labels(*table(rows(lambda k: ["poor", "good"][k % 2])), "label")
    assert class_labels(examples, None, ordinal=False)[0] == ("good", "poor")
    names, labels = class_labels(examples, ("poor", "good"), ordinal=True)
    assert labels[0] == 0
    with pytest.raises(UserError, match=r"line 3: unknown class 'good'\. Known: poor"):
        class_labels(examples, ("poor",), ordinal=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["poor", "good"], "The classes good, poor are not numbers. Give their order"),
        (["1.5", "2"], "The classes 1.5, 2 are not numbers"),
        (["1", "nan"], "line 3: is 'nan' a class? If the label is missing"),
        (["1", "N/A"], "line 3: is 'N/A' a class?"),
        (["Good", "good"], "line 3: is 'good' the class 'Good' of labels.csv, line 2? Write both"),
    ],
)
def test_classes_that_are_asked_about(table, labels, message):
    examples = read_labels(*table(rows(lambda k: labels[k % 2])), "label")
    with pytest.raises(UserError) as error:
        class_labels(examples, None, ordinal=True)
    assert message in str(error.value)
    assert class_labels(examples, tuple(labels), ordinal=True)[0] == tuple(labels)


def test_tables_of_spreadsheets(table):
    text = " path ;label; patient;split\n./00.png ; 1.0;a ;TRAIN\n;;;\n01.png;2;b;Val\n"
    labels, data = table("")
    labels.write_text(text, encoding="utf-16")
    found = read_labels(labels, data, "label")
    expected = [("00.png", "1", "a", "train"), ("01.png", "2", "b", "validation")]
    assert [(e.path, e.target, e.patient, e.split) for e in found] == expected


def load(table, text, tmp_path, **changes):
    labels, data = table(text)
    import dataclasses

    return load_task(dataclasses.replace(CONFIG, **changes), labels, data, None, tmp_path / "cache")


def test_a_class_without_training_examples(table, tmp_path, capsys):
    def split(k):
        return ["train", "validation", "test"][k // 10]

    load(table, rows(lambda k: k % 2 + (k >= 28), split=split), tmp_path)
    assert "No training example has the class 2" in capsys.readouterr().err
    with pytest.raises(UserError, match="All training examples are of one class"):
        load(table, rows(lambda k: int(k >= 28), split=split), tmp_path)


def test_the_split_column_is_taken_as_it_is(table, tmp_path):
    text = rows(split=lambda k: ["train", "val", "test"][k // 10])
    split = load(table, text, tmp_path).split
    np.testing.assert_array_equal(split.train, range(10))
    np.testing.assert_array_equal(split.test, range(20, 30))


def test_an_unreadable_image(table, tmp_path):
    labels, data = table(rows())
    (data / "05.png").write_bytes((data / "05.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"labels.csv, line 7: the image cannot be read"):
        load_task(CONFIG, labels, data, None, tmp_path / "cache")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((40, 51), np.uint8), "line 2: the mask has 40×51 pixels, the image 40×50"),
        (np.ones((40, 50, 3), np.uint8), "line 2: mask '00_mask.png' is not an 8-bit"),
        (np.zeros((40, 50), np.uint8), "All masks are empty"),
        (np.full((40, 50), 255, np.uint8) - np.eye(40, 50, dtype=np.uint8), "has class 255"),
        (np.full((40, 50), 2, np.uint8), "line 2: mask '00_mask.png' has class 2, but there are 1"),
    ],
)
def test_mistakes_in_masks(table, tmp_path, mask, message):
    labels, data = table("path,mask\n00.png,00_mask.png\n")
    Image.fromarray(mask).save(data / "00_mask.png")
    config = FinetuneConfig(task="segmentation", image_size=(32, 32), width=1 / 32)
    with pytest.raises(UserError) as error:
        load_task(config, labels, data, ("organ",), tmp_path / "cache")
    assert message in str(error.value)


def masks_of(table, tmp_path, *values, names=None):
    """Classes and targets of masks that hold 0 and the given values, one mask each."""
    labels, data = table("path,mask\n" + "".join(f"{k:02d}.png,{k}.png\n" for k in range(20)))
    for k in range(20):
        mask = np.zeros((40, 50), np.uint8)
        mask[10:30, 10:30] = values[k % len(values)]
        Image.fromarray(mask).save(data / f"{k}.png")
    config = FinetuneConfig(task="segmentation", image_size=(32, 32), width=1 / 32)
    task = load_task(config, labels, data, names, tmp_path / "cache")
    return task.classes, np.unique(task.targets).tolist(), task


def test_black_and_white_masks_are_one_class(table, tmp_path):
    classes, values, task = masks_of(table, tmp_path, 255, 0)
    assert (classes, values) == (("background", "class_1"), [0, 1])
    # 20 × 20 of 40 × 50 pixels, in every second mask.
    assert {int(mask.sum()) for mask in task.source_masks} <= {0, 400}
    assert masks_of(table, tmp_path, 255, 0, names=("organ",))[0] == ("background", "organ")


def test_gaps_between_classes_are_named(table, tmp_path):
    with pytest.raises(UserError, match=r"have the classes 1, 4, but not 2, 3\. Number"):
        masks_of(table, tmp_path, 1, 4)
    names = ("a", "b", "c", "d")
    assert masks_of(table, tmp_path, 1, 4, names=names)[:2] == (("background", *names), [0, 1, 4])


def test_masks_by_file_name(table, write, tmp_path):
    _, data = table("")
    (data / "masks").mkdir()
    write("data/deep/1.2.840.5", np.zeros((40, 50), np.uint8))
    (data / "03.txt").write_text("of no interest")
    names = [*(f"{k:02d}" for k in range(11)), "1.2.840.5_mask"]
    for name in names:
        Image.fromarray(np.eye(40, 50, dtype=np.uint8)).save(data / "masks" / f"{name}.png")
    found = match_masks(data, data / "masks")
    assert list(found) == [*(f"{k:02d}.png" for k in range(11)), "deep/1.2.840.5"]
    assert found["deep/1.2.840.5"] == str((data / "masks" / "1.2.840.5_mask.png").resolve())
    config = FinetuneConfig(task="segmentation", image_size=(32, 32), width=1 / 32)
    task = load_task(config, None, data, None, tmp_path / "cache", data / "masks")
    assert [example.path for example in task.examples] == list(found)
    # With a CSV that has no column mask; of 07 it does not speak.
    text = "path,patient\n" + "".join(f"{k:02d}.png,{k}\n" for k in range(30) if k != 7)
    labels, _ = table(text)
    task = load_task(config, labels, data, None, tmp_path / "cache", data / "masks")
    assert [e.path for e in task.examples] == [f"{k:02d}.png" for k in range(11) if k != 7]

    shutil.copy(data / "00.png", data / "deep" / "00.png")
    with pytest.raises(UserError, match=r"'00.png' fits more than once \('00.png', 'deep/00.png'"):
        match_masks(data, data / "masks")
    (data / "deep" / "00.png").unlink()
    (data / "05.png").unlink()
    with pytest.raises(UserError, match=r"1 of 12 masks have no image .* such as '05.png'"):
        match_masks(data, data / "masks")


def test_fractions_are_nested_and_by_patient():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 3)
    strata = np.repeat(rng.integers(0, 5, 200), 3)
    rows_ = np.arange(600)
    before = set()
    for fraction in (0.05, 0.1, 0.25, 1.0):
        chosen = set(nested_fraction(rows_, groups, strata, fraction, seed=1))
        assert before <= chosen
        assert len(chosen) == round(200 * fraction) * 3
        assert {3 * (k // 3) for k in chosen} <= chosen  # whole patients
        before = chosen
    assert set(strata[nested_fraction(rows_, groups, strata, 0.05, 1)]) == set(range(5))
    different = nested_fraction(rows_, groups, strata, 0.05, 2)
    assert set(different) != set(nested_fraction(rows_, groups, strata, 0.05, 1))


def test_three_way_split_keeps_patients_and_classes():
    groups = np.repeat(np.arange(100), 2)
    strata = np.repeat(np.arange(100) % 4, 2)
    split = split_labelled(groups, strata, seed=0)
    sides = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(sides)) == list(range(200))
    assert [len(side) for side in sides] == pytest.approx([160, 20, 20], abs=4)
    patients = [set(groups[side]) for side in sides]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    assert all(set(strata[side]) == {0, 1, 2, 3} for side in sides)
    with pytest.raises(UserError, match="9 patients are too few"):
        split_labelled(np.arange(9), np.zeros(9, int), 0)
    with pytest.raises(UserError, match="9 images of a class are too few"):
        split_labelled(np.arange(18), np.arange(18) % 2, 0)
