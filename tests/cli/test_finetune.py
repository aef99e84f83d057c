"""`finetune` from a labels CSV to a head that answers, and the mistakes it names."""

import csv
import hashlib
import json
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

SIZE = (32, 64)


@pytest.fixture
def encoder(exported):
    return exported[1].parent


@pytest.fixture
def data(tmp_path):
    """40 images of 20 patients: a bright disc on the left or on the right, with its mask."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    y, x = np.mgrid[:48, :80]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "mask", "patient"])
        for k in range(40):
            right = k % 2
            disc = np.hypot(y - 24, x - (20 + 40 * right)) < rng.uniform(10, 15)
            pixels = rng.integers(0, 60, (48, 80)) + 150 * disc
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
            Image.fromarray(disc.astype(np.uint8)).save(folder / f"{k}_mask.png")
            table.writerow([f"{k}.png", ["left", "right"][right], f"{k}_mask.png", f"P{k // 2}"])
    return folder


@pytest.fixture
def run(data, encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def finetune(*extra, task="classification", name="run", code=0):
        words = f"finetune --task {task} --data data --labels labels.csv --preset quick"
        words += f" --encoder {encoder} --run {name} --export out --epochs 2"
        assert main([*words.split(), *map(str, extra)]) == code
        return capsys.readouterr()

    return finetune


@pytest.mark.slow
def test_segmentation_learns_discs_and_answers(run, data, tmp_path):
    out = run("--epochs", 15, "--batch-size", 2, "--class-names", "disc", task="segmentation").out
    assert "test dice" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert result["dice_disc"]["value"] > 0.8
    hausdorff = result["hausdorff_95_disc"]
    assert hausdorff["unit"] == "pixels of the source"
    assert f"{hausdorff['value']:.4f} pixels of the source 95 % " in out
    assert result["false_positive_disc"]["value"] is None  # there is a disc in every image
    card = (tmp_path / "out" / "segmentation" / "1" / "MODEL_CARD.md").read_text()
    assert f"| {hausdorff['value']:.4f} | pixels of the source |" in card
    assert "data:image/jpeg" in (tmp_path / "run" / "test.html").read_text()
    low, high = result["dice"]["interval_95"]
    assert low <= result["dice"]["value"] <= high
    assert (tmp_path / "run" / "segmentations.png").is_file()
    version = tmp_path / "out" / "segmentation" / "1"
    content = json.loads((version / "segmentation.json").read_text())
    assert content["classes"] == ["background", "disc"]
    assert content["image_size"] == list(SIZE)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](
        image_bytes=tf.constant([(data / "3.png").read_bytes()])
    )
    mask = answer["mask"].numpy()[0]
    assert (mask.dtype, mask.shape) == (np.uint8, SIZE)
    assert mask[:, 40:].mean() > 3 * mask[:, :24].mean()  # number 3 is on the right


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ordinal", "categorical"])
def test_classification(run, tmp_path, encoding):
    names = ("--class-names", "left", "right")
    run("--label-encoding", encoding, "--freeze", "--label-fraction", 0.5, *names)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["freeze"] is True
    assert config["images"] == {"train": 16, "validation": 4, "test": 4}
    # left, right, left, …, two images a patient
    held = json.dumps([["left", "right"] * 20, np.repeat(np.arange(20), 2).tolist()])
    assert config["labels_fingerprint"] == hashlib.sha256(held.encode()).hexdigest()
    # Two epochs of four batches would be 8 steps; the preset asks for 50 an epoch.
    assert (tmp_path / "run" / "checkpoints" / "step-000000100.npz").is_file()
    with (tmp_path / "run" / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "labels.csv").open(newline="") as file:
        labels = {row["path"]: row for row in csv.DictReader(file)}
    assert list(rows[0])[:2] == ["path", "patient"]
    for row in rows:
        label = labels[row["path"]]
        assert (row["patient"], row["true"]) == (label["patient"], label["label"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    right = np.mean([row["true"] == row["predicted"] for row in rows])
    assert result["accuracy"]["value"] == pytest.approx(right)
    assert (tmp_path / "run" / "confusion.png").is_file()
    names = {p.name for p in (tmp_path / "out" / "classification" / "1").iterdir()}
    assert {"saved_model.pb", "classification.json"} <= names


@pytest.mark.slow
def test_settings_come_from_a_file_and_from_the_command_line(run, tmp_path):
    (tmp_path / "head.toml").write_text("learning_rate = 0.002\ndropout = 0\naugment = true\n")
    words = ("--config", "head.toml", "--dropout", 0.1, "--precision", "float16")
    words += ("--encoder", "none", "--image-size", 32, 64, "--width", 1 / 32)
    words += ("--class-names", "disc", "--batch-size", 4, "--epoch-steps", 10)
    run(*words, task="segmentation")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    settings = [config[name] for name in ("learning_rate", "dropout", "augment", "precision")]
    assert settings == [0.002, 0.1, True, "float16"]
    with np.load(max((tmp_path / "run" / "checkpoints").iterdir())) as file:
        (name,) = (name for name in file.files if name.endswith("dynamic_scale"))
        assert file[name] > 1  # gradients are scaled, and the scale goes on after a resume
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert 0 < losses[-1] < losses[0] <= 1
    version = tmp_path / "out" / "segmentation" / "1"
    saved = tf.saved_model.load(str(version))
    answer = saved.signatures["serving_image"](image=tf.zeros((1, 32, 64, 1)))
    assert answer["probabilities"].dtype == tf.float32


@pytest.mark.slow
def test_without_export_the_measures_stay(run, tmp_path):
    out = run("--epochs", 1, "--no-export", "--label-encoding", "categorical").out
    assert "test accuracy" in out
    assert "Model:" not in out
    assert "accuracy" in json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_one_epoch_and_one_more_are_two(run, tmp_path):
    """Bit for bit; the head of the longer run is exported as a new version."""
    always = ("--deterministic", "--epoch-steps", 4, "--export", "out")
    always += ("--label-encoding", "categorical")
    run(*always, "--no-export", name="whole")
    run(*always, "--epochs", 1, name="longer")
    assert "epoch 2/2" in run(*always, "--resume", name="longer").err
    kept = []
    for name in ("whole", "longer"):
        with np.load(max((tmp_path / name / "checkpoints").iterdir())) as file:
            kept.append({path: file[path] for path in file.files})
    assert kept[0].keys() == kept[1].keys()
    for path, array in kept[0].items():
        np.testing.assert_array_equal(kept[1][path], array, err_msg=path)
    for file in ("result.json", "history.csv", "test.csv"):
        texts = {(tmp_path / name / file).read_text() for name in ("whole", "longer")}
        assert len(texts) == 1, file
    assert json.loads((tmp_path / "longer" / "result.json").read_text())["epochs"] == 2
    versions = [tmp_path / "out/classification" / version for version in "12"]
    contents = [json.loads((v / "classification.json").read_text()) for v in versions]
    assert [content["epochs"] for content in contents] == [1, 2]
    assert "ended already" in run(*always, "--resume", name="longer").out
    assert (
        "--epochs 1: the run in"
        in run(*always, "--resume", "--epochs", 1, name="longer", code=2).err
    )


def test_mistakes(run, data, tmp_path):
    assert "the encoder has (32, 64)" in run("--image-size", 64, 64, code=2).err
    assert "the encoder has 0.03125" in run("--width", 0.5, code=2).err
    assert "no exported encoder here" in run("--encoder", tmp_path / "none", code=2).err
    assert "above 0, at most 1" in run("--label-fraction", 5, code=2).err
    assert "unknown class 'left'" in run("--class-names", "right", code=2).err
    its_own = ("--image-size", 32, 64, "--width", 1 / 32, "--class-names", "right")
    assert "unknown class 'left'" in run(*its_own, code=2).err  # the encoder's own size is fine
    assert "give their order, e.g. --class-names left right" in run(code=2).err
    assert "--masks is for --task segmentation" in run("--masks", data, code=2).err
    (data / "7.png").unlink()
    assert "labels.csv, line 9: no file '7.png'" in run(code=2).err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()
    assert main(["finetune", "--task", "segmentation", "--data", str(data)]) == 2


@pytest.mark.slow
def test_the_history_has_loss_and_accuracy(run, encoder, tmp_path):
    """Loss and accuracy of both sides; of four validation images, accuracy is in quarters.

    The models go below the run's folder, which has to be empty at the start.
    """
    names = ("--class-names", "left", "right")
    run("--epochs", 1, "--seed", 3, "--export", "run/export", *names)
    content = json.loads((tmp_path / "run/export/classification/1/classification.json").read_text())
    assert content["images"] == {"train": 32, "validation": 4, "test": 4}
    assert content["patients"] == {"train": 16, "validation": 2, "test": 2}  # two images each
    its = json.loads((encoder / "1" / "encoder.json").read_text())
    assert content["encoder"]["weights_digest"] == its["weights_digest"]
    assert content["weights_digest"] != its["weights_digest"]
    with (tmp_path / "run" / "history.csv").open() as file:
        history = list(csv.DictReader(file))[-1]
    assert 0 <= float(history["val_accuracy"]) <= 1
    assert (float(history["val_accuracy"]) * 4) == round(float(history["val_accuracy"]) * 4)
    assert {"epoch", "accuracy", "loss", "val_accuracy", "val_loss"} == set(history)


class Stopping(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


@pytest.mark.slow
def test_from_a_notebook(data, tmp_path, monkeypatch):
    """On a Keras model of one's own, with a callback of one's own; then read, not trained again."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    own = VGG16Encoder(1 / 32)
    own.build((None, *SIZE, 1))
    before = own.get_weights()
    settings = {"epochs": 3, "epoch_steps": 2, "freeze": True, "width": 1 / 32}
    words = {"data": data, "labels": "labels.csv", "class_names": ["disc"], "run": "run"}
    words |= {"preset": "quick", "encoder": own, "resume": True, **settings}
    done = finetune("segmentation", callbacks=[Stopping()], **words)
    assert done.version == Path("export/segmentation/1")
    content = json.loads((done.version / "segmentation.json").read_text())
    assert content["image_size"] == list(SIZE)  # the encoder's, not the preset's
    assert content["encoder"] == {"weights_digest": digest_of(before)}
    assert "backbone" not in content
    for a, b in zip(before, done.model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with (done.run / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert len(history) == 2
    assert done.epoch == 1 + np.argmin([float(row["val_loss"]) for row in history])
    read = finetune("segmentation", **words)
    assert (read.epoch, read.measures, read.version) == (done.epoch, done.measures, None)
    for a, b in zip(read.model.get_weights(), done.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="--encoder-weights imagenet: the encoder has its own"):
        finetune_config("segmentation", "quick", {"encoder_weights": "imagenet"}, content)
