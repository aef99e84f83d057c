"""Test sets small enough to measure by hand: the tables, the measures and the page."""

import base64
import csv
import io
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce import metrics
from tf_dicom_ce.data.labels import Example
from tf_dicom_ce.data.splits import Split
from tf_dicom_ce.data.store import Store
from tf_dicom_ce.data.tasks import Task
from tf_dicom_ce.masks import colour
from tf_dicom_ce.training.evaluation import evaluate_classification, evaluate_segmentation

MODEL, SOURCE = (8, 8), (16, 32)
DIAGONAL = np.hypot(16, 32)


def task_of(truth, classes, frame=None, masks=False):
    """A task whose first row is for training; the others are the test images, one a patient."""
    rows = len(truth) + 1
    examples = tuple(
        Example(
            where="",
            path=f"a,b/{k}.dcm",
            frame=frame and frame + k,
            target="",
            patient=f"P<{k}>",
            split=None,
        )
        for k in range(rows)
    )
    test = np.arange(1, rows)
    return Task(
        examples=examples,
        frames=Store(
            images=tf.constant(np.random.default_rng(0).integers(0, 99, (rows, *MODEL), np.uint8)),
            numbers=np.arange(rows),
            places=np.tile(np.int32([20, 40, 2, 18, 4, 36]), (rows, 1)),
            refusals={},
            fingerprint="",
        ),
        targets=np.zeros(rows, np.int32) if masks else np.array([0, *truth], np.int32),
        source_masks=[None, *truth] if masks else [],
        classes=classes,
        patients=np.arange(rows),
        split=Split(np.array([0]), np.array([0]), test),
        labels_fingerprint="",
    )


def columns(*classes):
    """A mask of upright stripes, each half as wide as a stripe of the model's eight columns."""
    return np.tile(np.repeat(np.uint8(classes), 4), (SOURCE[0], 1))


def sure_of(*classes):
    """The answer of a head that is sure of the class of each of its columns."""
    return {"probabilities": np.eye(3, dtype=np.float32)[np.tile(classes, (MODEL[0], 1))]}


def table_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mode_of(path):
    return path.stat().st_mode & 0o777


def pictures(html):
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        for content in re.findall(r"data:image/jpeg;base64,([^\"]+)", html)
    ]


ORGANS = ("background", "liver", "kidney")
NOTHING = [0] * 8
LIVER, KIDNEY = [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 2, 2]
BOTH = [1, 1, 1, 1, 0, 0, 2, 2]
SEGMENTED = [  # truth, answer
    (LIVER, LIVER),
    (LIVER, [1, 1, 1, 0, 0, 0, 0, 0]),
    (BOTH, [1, 1, 1, 1, 0, 0, 0, 0]),  # the kidney is missed
    (LIVER, BOTH),  # a kidney too many
    (NOTHING, NOTHING),
    (NOTHING, [0, 0, 0, 0, 0, 0, 0, 1]),
    (KIDNEY, NOTHING),
]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Ten instead of a thousand; `test_metrics` has tests of them."""
    bootstrap = metrics.bootstrap
    monkeypatch.setattr(metrics, "bootstrap", lambda m, c, n, seed: bootstrap(m, c, 10, seed))


@pytest.fixture
def segmented(tmp_path):
    task = task_of(
        [columns(*t) for t, _ in SEGMENTED], ("background", "liver", "kidney"), masks=True
    )
    measures = evaluate_segmentation((sure_of(*a) for _, a in SEGMENTED), task, 0, tmp_path)
    return measures, tmp_path


def test_masks_measured_by_hand(segmented):
    measures, run = segmented
    three_of_four = 2 * 3 / (4 + 3)
    rows = table_of(run / "test.csv")
    nan = float("nan")
    for name, expected in (
        ("dice_liver", [1, three_of_four, 1, 1, nan, nan, nan]),
        ("dice_kidney", [nan, nan, 0, nan, nan, nan, 0]),
        ("dice", [1, three_of_four, 0.5, 1, nan, nan, 0]),
        ("hausdorff_95_kidney", [nan, nan, DIAGONAL, nan, nan, nan, DIAGONAL]),
        ("hausdorff_95_liver", [0, 4, 0, 0, nan, nan, nan]),
        ("surface_dice_kidney", [nan, nan, 0, nan, nan, nan, 0]),
        ("false_positive_liver", [nan, nan, nan, nan, 0, 1, 0]),
        ("false_positive_kidney", [0, 0, nan, 1, 0, 0, nan]),
    ):
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, err_msg=name)
        assert measures[name]["value"] == pytest.approx(np.nanmean(expected))
    assert list(rows[0])[:2] == ["path", "patient"]
    assert [row["path"] for row in rows] == [f"a,b/{k}.dcm" for k in range(1, 8)]
    assert [row["patient"] for row in rows] == [f"P<{k}>" for k in range(1, 8)]
    assert {name: of["unit"] for name, of in measures.items() if "kidney" not in name} == {
        "dice_liver": "share",
        "hausdorff_95_liver": "pixels of the source",
        "surface_dice_liver": "share",
        "false_positive_liver": "share",
        "dice": "share",
    }


def test_the_prediction_does_not_choose_its_images(tmp_path):
    """Two heads, one of which finds nothing and one too much, are judged on the same images."""
    task = task_of(
        [columns(*t) for t, _ in SEGMENTED], ("background", "liver", "kidney"), masks=True
    )
    defined = []
    for answer in (NOTHING, BOTH):
        evaluate_segmentation((sure_of(*answer) for _ in SEGMENTED), task, 0, tmp_path)
        rows = table_of(tmp_path / "test.csv")
        defined.append([[row[name] == "nan" for name in row] for row in rows])
    assert defined[0] == defined[1]


def test_the_worst_masks_in_order(segmented):
    _, run = segmented
    html = (run / "test.html").read_text()
    worst, found = html.split("The worst by Dice")[1].split("<h2>False positives")
    # Images 5 and 6 have no class: they have no Dice.
    assert re.findall(r"<code>a,b/(\d).dcm</code>", worst) == ["7", "3", "2", "1", "4"]
    assert re.findall(r"<b>(.*?)</b>", worst) == [
        "Dice 0.0000 (kidney 0.0000)",
        "Dice 0.5000 (liver 1.0000, kidney 0.0000)",
        "Dice 0.8571 (liver 0.8571)",
        "Dice 1.0000 (liver 1.0000)",
        "Dice 1.0000 (liver 1.0000)",
    ]
    assert "patient <code>P&lt;7&gt;</code>" in worst
    cells = re.findall(r"<td>(liver|kidney)</td>.*?([\d.]+) %</td>.*?a,b/(\d).dcm", found)
    assert cells == [("liver", "12.50", "6"), ("kidney", "25.00", "4")]
    shown = pictures(html)
    assert len(shown) == 10
    truth, prediction = shown[2:4]  # image 3: liver and kidney, of which the kidney is missed
    assert truth.shape == prediction.shape == (260, 520, 3)  # as 16 × 32

    def blue(picture, column):  # the kidney's; JPEG is near
        return abs(picture[130, column].astype(int) - colour(2)).max() < 60

    border = 520 * 6 // 8
    assert blue(truth, border)
    assert not blue(truth, border + 40)  # inside
    assert not blue(truth, border - 3)
    assert not blue(prediction, border)


def test_what_names_patients_is_private(segmented):
    _, run = segmented
    assert {path.name: mode_of(path) for path in run.glob("test.*")} == {
        "test.csv": 0o600,
        "test.html": 0o600,
    }
    assert (run / "segmentations.png").is_file()


def test_a_test_set_without_any_organ(tmp_path):
    task = task_of([columns(*NOTHING)] * 2, ("background", "liver"), masks=True)
    measures = evaluate_segmentation([sure_of(*LIVER), sure_of(*NOTHING)], task, 0, tmp_path)
    assert measures["dice"]["value"] is None
    assert measures["false_positive_liver"]["value"] == 0.5
    assert "No test image has any of the classes" in (tmp_path / "test.html").read_text()
    assert not (tmp_path / "segmentations.png").exists()


def test_ten_are_shown_of_twelve_classified_images(tmp_path):
    """The k-th image has the k-th probability of its true class."""
    of_truth = np.array([0.9, 0.1, 0.55, 0.5, 0.2, 0.95, 0.3, 0.6, 0.05, 0.7, 0.8, 0.4])
    labels = np.arange(12) % 2
    p = np.where(labels[:, None] == [0, 1], of_truth[:, None], 1 - of_truth[:, None])
    answers = [
        {"probabilities": of, "class_id": of.argmax(), "logits": np.log(of)}
        for of in p.astype(np.float32)
    ]
    task = task_of(labels, ("poor", "good"), frame=3)
    measures = evaluate_classification(answers, task, 0, tmp_path)
    assert measures["accuracy"]["unit"] == "share"
    assert measures["accuracy"]["value"] == np.mean(p.argmax(axis=1) == labels)
    rows = table_of(tmp_path / "test.csv")
    assert list(rows[0]) == ["path", "frame", "patient", "true", "predicted", "p_poor", "p_good"]
    assert list(rows[1].values()) == ["a,b/2.dcm", "5", "P<2>", "good", "poor", "0.9000", "0.1000"]
    assert mode_of(tmp_path / "test.csv") == mode_of(tmp_path / "test.html") == 0o600
    html = (tmp_path / "test.html").read_text()
    order = [int(k) for k in re.findall(r"<code>a,b/(\d+).dcm</code>, frame", html)]
    assert order == (np.argsort(of_truth)[:10] + 1).tolist()
    assert "<b>true poor, probability 0.0500; predicted good, probability 0.9500</b>" in html
    assert "</code>, frame 12, patient <code>P&lt;9&gt;</code>" in html
    assert len(pictures(html)) == 10
    assert "<h2>False positives" not in html
    assert (tmp_path / "confusion.png").is_file()


def test_ordered_classes(tmp_path):
    task = task_of([0, 1, 2], ("a", "b", "c"))
    answers = [
        {"probabilities": np.float32(p), "class_id": k, "logits": np.float32(z)}
        for p, k, z in (
            ([0.8, 0.1, 0.1], 0, [-1, -2]),
            ([0.2, 0.6, 0.2], 1, [1, -1]),
            ([0.4, 0.3, 0.3], 1, [-1, 1]),  # passes the second threshold alone
        )
    ]
    measures = evaluate_classification(answers, task, 0, tmp_path)
    assert measures["mean_absolute_error"]["value"] == pytest.approx(1 / 3)
    assert measures["mean_absolute_error"]["unit"] == "classes"
    assert measures["rank_inconsistency"]["value"] == pytest.approx(1 / 3)
    html = (tmp_path / "test.html").read_text()
    assert "<code>recall_1</code>" in html and "b: images of the class that are found" in html
