"""`finetune` from a labels CSV to a head that answers, and the mistakes it names."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.cli import main
from tf_dicom_ce.config import finetune_config
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.saved_model.reading import digest_of
from tf_dicom_ce.training.finetune import finetune

pytestmark = pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly")  # tf.data

SIZE = (32, 64)


@pytest.fixture(scope="module")
def encoder(exported):
    return exported[1].parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """40 images of 20 patients in `data`: a bright disc on the left or right, with its mask.

    Only to be read.
    """
    place = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    (place / "data").mkdir()
    y, x = np.mgrid[:48, :80]
    with (place / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "mask", "patient"])
        for k in range(40):
            right = k % 2
            disc = np.hypot(y - 24, x - (20 + 40 * right)) < rng.uniform(10, 15)
            pixels = rng.integers(0, 60, (48, 80)) + 150 * disc
            Image.fromarray(pixels.astype(np.uint8)).save(place / "data" / f"{k}.png")
            Image.fromarray(disc.astype(np.uint8)).save(place / "data" / f"{k}_mask.png")
            table.writerow([f"{k}.png", ["left", "right"][right], f"{k}_mask.png", f"P{k // 2}"])
    return place


@pytest.fixture
def run(place, encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def finetune(*extra, task="classification", name="run", code=0):
        words = f"finetune --task {task} --data {place / 'data'} --labels {place / 'labels.csv'}"
        words += f" --preset quick --encoder {encoder} --run {name} --export out --epochs 2"
        assert main([*words.split(), *map(str, extra)]) == code
        return capsys.readouterr()

    return finetune


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_what_a_frozen_encoder_sees_is_computed_once(run, tmp_path, task, monkeypatch):
    """Its head learns as if it were computed at every step."""
    import tf_dicom_ce.training.finetune as module

    histories = []
    for name, most in (("once", module._MOST_SEEN), ("at every step", 0)):
        monkeypatch.setattr(module, "_MOST_SEEN", most)
        words = ("--freeze", "--epochs", 1, "--epoch-steps", 6, "--no-export", "--run", name)
        run(*words, "--label-encoding", "categorical", task=task)
        with (tmp_path / name / "history.csv").open(newline="") as file:
            histories.append([float(row["loss"]) for row in csv.DictReader(file)])
    np.testing.assert_allclose(*histories, rtol=1e-4)


@pytest.mark.slow
def test_segmentation_learns_discs_and_answers(run, place, tmp_path):
    """In half precision, with settings from a file, overridden by the command line."""
    (tmp_path / "head.toml").write_text("learning_rate = 0.005\ndropout = 0\naugment = true\n")
    words = ("--config", "head.toml", "--dropout", 0.1, "--precision", "float16")
    words += ("--epochs", 8, "--batch-size", 2, "--class-names", "disc")
    out = run(*words, task="segmentation").out
    assert "test dice" in out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    settings = [config[name] for name in ("learning_rate", "dropout", "augment", "precision")]
    assert settings == [0.005, 0.1, True, "float16"]
    # 32 images in batches of two would be 16 steps an epoch; the preset asks for 25.
    with np.load(tmp_path / "run" / "checkpoints" / "step-000000200.npz") as file:
        (name,) = (name for name in file.files if name.endswith("dynamic_scale"))
        assert file[name] > 1  # gradients are scaled, and the scale goes on after a resume
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert 0 < losses[-1] < losses[0] <= 1
    result = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert result["dice_disc"]["value"] > 0.8
    hausdorff = result["hausdorff_95_disc"]
    assert hausdorff["unit"] == "pixels of the source"
    assert f"{hausdorff['value']:.4f} pixels of the source 95 % " in out
    assert result["false_positive_disc"]["value"] is None  # there is a disc in every image
    version = tmp_path / "out" / "segmentation" / "1"
    card = (version / "MODEL_CARD.md").read_text()
    assert f"| {hausdorff['value']:.4f} | pixels of the source |" in card
    assert "data:image/jpeg" in (tmp_path / "run" / "test.html").read_text()
    low, high = result["dice"]["interval_95"]
    assert low <= result["dice"]["value"] <= high
    assert (tmp_path / "run" / "segmentations.png").is_file()
    content = json.loads((version / "segmentation.json").read_text())
    assert content["classes"] == ["background", "disc"]
    assert content["image_size"] == list(SIZE)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](
        image_bytes=tf.constant([(place / "data" / "3.png").read_bytes()])
    )
    assert answer["probabilities"].dtype == tf.float32
    mask = answer["mask"].numpy()[0]
    assert (mask.dtype, mask.shape) == (np.uint8, SIZE)
    assert mask[:, 40:].mean() > 3 * mask[:, :24].mean()  # number 3 is on the right


def assert_accuracy_is_of(table, place, result):
    """The table of the test images has their labels, and the accuracy is that of its rows."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (place / "labels.csv").open(newline="") as file:
        labels = {row["path"]: row for row in csv.DictReader(file)}
    assert list(rows[0])[:2] == ["path", "patient"]
    for row in rows:
        label = labels[row["path"]]
        assert (row["patient"], row["true"]) == (label["patient"], label["label"])
    right = np.mean([row["true"] == row["predicted"] for row in rows])
    assert result["accuracy"]["value"] == pytest.approx(right)


@pytest.mark.slow
def test_classification(run, place, encoder, tmp_path):
    """Two epochs without export equal one and one more, bit for bit; each exports a version.

    The models go below the run's folder, which has to be empty at the start.
    """
    always = ("--deterministic", "--freeze", "--label-fraction", 0.5, "--epoch-steps", 5)
    always += ("--seed", 3, "--class-names", "left", "right")
    out = run(*always, "--no-export", name="whole").out
    assert "test accuracy" in out
    assert "Model:" not in out
    assert not (tmp_path / "out").exists()
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    config = json.loads((whole / "config.json").read_text())
    assert config["freeze"] is True
    assert config["images"] == {"train": 16, "validation": 4, "test": 4}
    # left, right, left, …, two images a patient
    held = json.dumps([["left", "right"] * 20, np.repeat(np.arange(20), 2).tolist()])
    assert config["labels_fingerprint"] == hashlib.sha256(held.encode()).hexdigest()
    result = json.loads((whole / "result.json").read_text())
    assert_accuracy_is_of(whole / "test.csv", place, result["test"])
    assert (whole / "confusion.png").is_file()
    with (whole / "history.csv").open() as file:
        history = list(csv.DictReader(file))[-1]
    assert 0 <= float(history["val_accuracy"]) <= 1
    # Of four validation images, accuracy is in quarters.
    assert (float(history["val_accuracy"]) * 4) == round(float(history["val_accuracy"]) * 4)
    assert {"epoch", "accuracy", "loss", "val_accuracy", "val_loss"} == set(history)

    always += ("--export", "longer/export")
    run(*always, "--epochs", 1, name="longer")
    assert "epoch 2/2" in run(*always, "--resume", name="longer").err
    kept = []
    for folder in (whole, longer):
        with np.load(max((folder / "checkpoints").iterdir())) as file:
            kept.append({path: file[path] for path in file.files})
    assert kept[0].keys() == kept[1].keys()
    for path, array in kept[0].items():
        np.testing.assert_array_equal(kept[1][path], array, err_msg=path)
    for file in ("result.json", "history.csv", "test.csv"):
        assert (whole / file).read_text() == (longer / file).read_text(), file
    assert result["epochs"] == 2
    versions = [longer / "export/classification" / version for version in "12"]
    assert all((version / "saved_model.pb").is_file() for version in versions)
    contents = [json.loads((v / "classification.json").read_text()) for v in versions]
    assert [content["epochs"] for content in contents] == [1, 2]
    assert contents[0]["images"] == config["images"]
    assert contents[0]["patients"] == {"train": 8, "validation": 2, "test": 2}  # two images each
    its = json.loads((encoder / "1" / "encoder.json").read_text())
    assert contents[0]["encoder"]["weights_digest"] == its["weights_digest"]
    assert contents[0]["weights_digest"] != its["weights_digest"]
    assert "is finished" in run(*always, "--resume", name="longer").out
    assert (
        "--epochs 1: the run in"
        in run(*always, "--resume", "--epochs", 1, name="longer", code=2).err
    )


def test_mistakes(run, place, tmp_path):
    data = place / "data"
    assert "the encoder has (32, 64)" in run("--image-size", 64, 64, code=2).err
    assert "the encoder has 0.03125" in run("--width", 0.5, code=2).err
    assert "no exported encoder here" in run("--encoder", tmp_path / "none", code=2).err
    assert "above 0, at most 1" in run("--label-fraction", 5, code=2).err
    assert "unknown class 'left'" in run("--class-names", "right", code=2).err
    its_own = ("--image-size", 32, 64, "--width", 1 / 32, "--class-names", "right")
    assert "unknown class 'left'" in run(*its_own, code=2).err  # the encoder's own size is fine
    assert "Give their order, such as --class-names left right" in run(code=2).err
    assert "--masks is for --task segmentation" in run("--masks", data, code=2).err
    few = shutil.copytree(data, tmp_path / "few", ignore=shutil.ignore_patterns("7.png"))
    assert "labels.csv, line 9: no file '7.png'" in run("--data", few, code=2).err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()
    assert main(["finetune", "--task", "segmentation", "--data", str(data)]) == 2


class Stopping(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_from_a_notebook(place, tmp_path, monkeypatch):
    """With the user's own Keras model and callback; a second call reads the result."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    own = VGG16Encoder(1 / 32)
    own.build((None, *SIZE, 1))
    before = own.get_weights()
    settings = {"epochs": 3, "epoch_steps": 2, "freeze": True, "width": 1 / 32}
    settings["label_encoding"] = "categorical"
    words = {"data": place / "data", "labels": place / "labels.csv", "run": "run"}
    words |= {"preset": "quick", "encoder": own, "resume": True, **settings}
    done = finetune("classification", callbacks=[Stopping()], **words)
    assert done.version == Path("export/classification/1")
    content = json.loads((done.version / "classification.json").read_text())
    assert content["image_size"] == list(SIZE)  # the encoder's, not the preset's
    assert content["encoder"] == {"weights_digest": digest_of(before)}
    assert "backbone" not in content
    assert_accuracy_is_of(done.run / "test.csv", place, done.measures)
    for a, b in zip(before, done.model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with (done.run / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert len(history) == 2
    assert done.epoch == 1 + np.argmin([float(row["val_loss"]) for row in history])
    read = finetune("classification", **words)
    assert (read.epoch, read.measures, read.version) == (done.epoch, done.measures, None)
    for a, b in zip(read.model.get_weights(), done.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="--encoder-weights imagenet: the encoder has weights"):
        finetune_config("classification", "quick", {"encoder_weights": "imagenet"}, content)
