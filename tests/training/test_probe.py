"""Probes: the numbers of a script of its own; a draw is what the linear head of its seed is."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.training.finetune import finetune
from tf_dicom_ce.training.probe import probe

SIZE = (32, 64)
SCALES = ("P2", "P3", "P4", "P5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 images of 24 patients with a bright disc, large or small, and a column of splits."""
    folder, rng = tmp_path_factory.mktemp("discs"), np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    lines = ["path,mask,label,patient,split"]
    for k in range(48):
        radius = (5, 9)[k % 2]
        disc = np.hypot(y - rng.integers(9, 23), x - rng.integers(10, 54)) < radius
        pixels = rng.integers(0, 110, SIZE) + 60 * disc
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
        Image.fromarray(disc.astype(np.uint8)).save(folder / f"{k}_mask.png")
        side = ("train", "train", "validation", "test")[k // 12]
        lines.append(f"{k}.png,{k}_mask.png,{('small', 'large')[k % 2]},{k // 2},{side}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    encoder = VGG16Encoder(1 / 16)
    encoder.build((None, *SIZE, 1))
    return encoder


@pytest.fixture(scope="module")
def scales(folder, encoder):
    images = np.stack([np.asarray(Image.open(folder / f"{k}.png"), float) for k in range(48)])
    z = (images - images.mean((1, 2), keepdims=True)) / images.std((1, 2), keepdims=True)
    found = encoder(z[..., None].astype(np.float32))
    return {k: found[k].numpy() for k in SCALES}


def given(folder, task):
    names = {"segmentation": ["disc"], "classification": None}
    return {
        **{"task": task, "data": folder, "labels": folder / "labels.csv", "image_size": SIZE},
        "class_names": names[task],
    }


def enlarged(images, size):
    """Bilinearly, between the centres of pixels: [N, h, w, C] to `size`."""
    for axis, length in enumerate(size, start=1):
        old = images.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        low = at.astype(int)
        part = np.expand_dims(at - low, tuple({0, 1, 2, 3} - {axis}))
        high = np.minimum(low + 1, old - 1)
        images = images.take(low, axis) * (1 - part) + images.take(high, axis) * part
    return images


def regression(features, labels):
    model = LogisticRegression(C=10 / len(labels), class_weight="balanced", max_iter=300)
    return make_pipeline(StandardScaler(), model).fit(features, labels)


def test_segmentation_by_a_script(folder, encoder, scales):
    probed = probe(**given(folder, "segmentation"), encoder=encoder, label_fractions=[1], draws=2)
    masks = np.stack([np.asarray(Image.open(folder / f"{k}_mask.png")) for k in range(48)])
    features = np.concatenate([enlarged(scales[k], (8, 16)) for k in SCALES], axis=-1)
    labels = masks[:24, 2::4, 2::4].reshape(-1)  # the nearest to the centres at stride 4
    model = regression(features[:24].reshape(len(labels), -1), labels)
    tests = features[36:].reshape(12 * 128, -1)
    logits = enlarged(model.decision_function(tests).reshape(12, 8, 16, 1), SIZE)[..., 0]
    found, truth = logits > 0, masks[36:] > 0
    dice = 2 * (found & truth).sum((1, 2)) / (found.sum((1, 2)) + truth.sum((1, 2)))
    assert 0.2 < dice.mean() < 0.99
    for row in probed.rows:  # with all labels and a given split, draws are alike
        assert row["dice"] == row["dice_disc"] == pytest.approx(dice.mean(), abs=1e-3)
        assert (row["images"], row["patients"]) == (24, 12)


def test_classification_by_a_script(folder, encoder, scales, tmp_path, capsys):
    run = tmp_path / "run"
    own = given(folder, "classification")
    probed = probe(**own, encoder=encoder, label_counts=[6], draws=3, run=run)
    features = np.concatenate([scales[k].mean((1, 2)) for k in SCALES], axis=-1)
    labels = np.arange(48) % 2 == 0  # large is class 0 by the alphabet
    with (run / "probe.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6
    accuracies = {"linear": [], "nearest neighbours": []}
    for draw in range(3):
        head = finetune(
            **own, encoder=encoder, label_count=6, head="linear", seed=draw, export=None,
            run=tmp_path / f"head-{draw}",
        )  # fmt: skip
        with (head.run / "split.csv").open(newline="") as file:
            rows = [int(r["path"][:-4]) for r in csv.DictReader(file) if r["split"] == "train"]
        assert len(rows) == len({row // 2 for row in rows}) == 6  # a patient each
        model = regression(features[rows], labels[rows])
        accuracy = model.score(features[36:], labels[36:])
        scaler = StandardScaler().fit(features[rows])
        near = KNeighborsClassifier(5, metric="cosine").fit(
            scaler.transform(features[rows]), labels[rows]
        )
        of_near = near.score(scaler.transform(features[36:]), labels[36:])
        for readout, expected in (("linear", accuracy), ("nearest neighbours", of_near)):
            (row,) = (r for r in table if (r["readout"], r["draw"]) == (readout, str(draw)))
            assert float(row["accuracy"]) == pytest.approx(expected, abs=1e-3)
            accuracies[readout].append(expected)
        assert head.measures["accuracy"]["value"] == pytest.approx(accuracy, abs=1e-6)
    for found in probed.means:
        values = accuracies[found["readout"]]
        half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["high"] - found["mean"] == pytest.approx(half, rel=1e-5, abs=1e-9)
    last = capsys.readouterr().out.splitlines()
    assert any(line.startswith("nearest neighbours, 6 images: accuracy 0.") for line in last)
    assert json.loads((run / "result.json").read_text())["measure"] == "accuracy"
    check_of_images(run, probed)
    words = {"encoder": encoder, "label_counts": [6], "run": run, "resume": True}
    again = probe(**own, **words, draws=3)
    assert (again.means, again.measure) == (probed.means, "accuracy")
    assert "linear, 6 images" not in capsys.readouterr().out
    with pytest.raises(UserError, match="has draws 3, this command has 4"):
        probe(**own, **words, draws=4)


def check_of_images(run, probed):
    """The split is given: every draw tests the same twelve images."""
    with (run / "test.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [f"{k}.png" for k in range(36, 48)]
    assert {(row["labels"], row["draws"]) for row in table} == {("6 images", "3")}
    assert [row["true"] for row in table] == ["small", "large"] * 6
    assert (run / "test.csv").stat().st_mode & 0o77 == 0
    linear = [row["accuracy"] for row in probed.rows if row["readout"] == "linear"]
    values = [float(row["accuracy"]) for row in table]
    assert np.mean(values) == pytest.approx(np.mean(linear))
    assert {round(3 * value, 6) for value in values} <= {0, 1, 2, 3}


def test_a_linear_head_is_exported_and_read_again(folder, encoder, tmp_path, capsys):
    own = given(folder, "segmentation")
    places = {"run": tmp_path / "run", "export": tmp_path / "export"}
    found = finetune(**own, encoder=encoder, head="linear", label_fraction=0.5, **places)
    assert "Solved at once: test dice 0." in capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["head"], config["freeze"]) == ("linear", True)
    assert "linear" in (found.version / "MODEL_CARD.md").read_text()
    again = finetune(
        **own, encoder=encoder, head="linear", label_fraction=0.5, resume=True, **places
    )
    assert again.measures == found.measures
    for a, b in zip(again.model.weights, found.model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_of_images_without_a_split(folder, encoder, tmp_path):
    """Each draw tests other images: an image's Dice is the mean over the draws that tested it."""
    lines = (folder / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    own = given(folder, "segmentation") | {"labels": tmp_path / "labels.csv"}
    found = probe(**own, encoder=encoder, label_counts=[6], draws=4, run=tmp_path / "run")
    with (tmp_path / "run" / "test.csv").open(newline="") as file:
        table = [(int(row["draws"]), float(row["dice"])) for row in csv.DictReader(file)]
    tested = sum(draws for draws, _ in table)
    assert 4 * 4 <= tested <= 4 * 8  # about a tenth of 48 images a draw
    sizes = tested / 4
    total = sum(draws * dice for draws, dice in table)
    assert total / sizes == pytest.approx(sum(row["dice"] for row in found.rows), rel=0.2)


def test_an_encoder_stays_as_trainable_as_it_was(folder, tmp_path):
    """A folder that holds something is refused before the work is done."""
    own = VGG16Encoder(1 / 32)
    own.build((None, *SIZE, 1))
    own.blocks[0].trainable = False
    count = len(own.trainable_variables)
    assert 0 < count < len(own.variables)
    words = given(folder, "classification") | {"encoder": own, "label_counts": [6], "draws": 2}
    probe(**words)
    assert len(own.trainable_variables) == count
    (tmp_path / "there").write_text("a run")
    with pytest.raises(UserError, match="not empty"):
        probe(**words, run=tmp_path)


def test_draws_are_nested_and_spread():
    from tf_dicom_ce.data.splits import nested_count

    rows, groups = np.arange(100, 130), np.arange(30) // 3
    strata = np.arange(30) % 2
    few, more, all_of_them = (nested_count(rows, groups, strata, n, 1) for n in (7, 14, 99))
    assert set(few) < set(more)
    np.testing.assert_array_equal(all_of_them, rows)
    counts = np.bincount((more - 100) // 3, minlength=10)
    assert sorted(counts) == [1] * 6 + [2] * 4
    assert len({tuple(nested_count(rows, groups, strata, 7, seed)) for seed in range(9)}) > 5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"draws": 1}, "--draws 1: an interval needs 2 or more"),
        ({"label_counts": [10, 0]}, "--label-counts 0: choose 1 or more"),
        ({"label_counts": [25]}, "--label-count 25: the training side has 24 labelled images"),
        ({"label_fractions": [2]}, "--label-fraction 2: choose"),
        ({"encoder": "nowhere"}, "no exported encoder here"),
        ({"labels": None}, "--data needs --labels or --masks"),
        (
            {"data": None},
            "labels.csv: without --data, choose a table of the phantom: class",
        ),
    ],
)
def test_mistakes(folder, encoder, wrong, words):
    with pytest.raises(UserError, match=words):
        probe(**({**given(folder, "segmentation"), "encoder": encoder} | wrong))
