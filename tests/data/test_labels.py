"""Each mistake in labels or masks: one message that names the line."""

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.data.labels import class_labels, read_labels
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
        ("file,label\n00.png,1\n", "no column 'path'. It has: file, label"),
        ("path,label\n00.png,1\nnone.png,2\n", "line 3: no file 'none.png'"),
        ("path,label\n00.png,1\n./00.png,2\n", "line 3: '00.png' stands in labels.csv, line 2"),
        ("path,label,split\n00.png,1,dev\n", "line 2: split 'dev' is none of"),
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
    examples = read_labels(*table(rows(lambda k: [10, 2, 9][k % 3])), "label")
    names, labels = class_labels(examples, None)
    assert names == ("2", "9", "10")
    np.testing.assert_array_equal(labels[:3], [2, 0, 1])
    examples = read_labels(*table(rows(lambda k: ["poor", "good"][k % 2])), "label")
    assert class_labels(examples, None)[0] == ("good", "poor")
    names, labels = class_labels(examples, ("poor", "good"))
    assert labels[0] == 0
    with pytest.raises(UserError, match=r"line 3: unknown class 'good'\. Known: poor"):
        class_labels(examples, ("poor",))


def load(table, text, tmp_path, **changes):
    labels, data = table(text)
    import dataclasses

    return load_task(dataclasses.replace(CONFIG, **changes), labels, data, None, tmp_path / "cache")


def test_a_class_without_training_examples(table, tmp_path, capsys):
    def split(k):
        return ["train", "validation", "test"][k // 10]

    load(table, rows(lambda k: k % 2 + (k >= 28), split=split), tmp_path)
    assert "No training example of class 2: it will hardly be found" in capsys.readouterr().err
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
        (np.full((40, 50), 2, np.uint8), "line 2: mask '00_mask.png' has class 2, and there are 1"),
    ],
)
def test_mistakes_in_masks(table, tmp_path, mask, message):
    labels, data = table("path,mask\n00.png,00_mask.png\n")
    Image.fromarray(mask).save(data / "00_mask.png")
    config = FinetuneConfig(task="segmentation", image_size=(32, 32), width=1 / 32)
    with pytest.raises(UserError) as error:
        load_task(config, labels, data, ("organ",), tmp_path / "cache")
    assert message in str(error.value)


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
