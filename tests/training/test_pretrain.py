"""Pretraining without a command line: what a notebook gives and gets."""

import contextlib
import io
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import load_encoder
from tf_dicom_ce.training.finetune import finetune
from tf_dicom_ce.training.pretrain import pretrain

SIZE = (32, 32)
SETTINGS = {"width": 1 / 32, "batch_size": 4, "epochs": 2}
IMAGES = np.random.default_rng(0).integers(0, 256, (15, *SIZE), np.uint8)
PATIENTS = [k // 3 for k in range(15)]


pytestmark = pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly")


@pytest.fixture(scope="module", autouse=True)
def eagerly():
    """Nothing here is of the graph: a few steps cost less than to trace them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def data():
    return UltrasoundDataset.from_arrays(IMAGES, np.eye(15, 2), patients=PATIENTS, labels="ab")


@pytest.fixture
def places(tmp_path):
    return {"run": tmp_path / "run", "export": tmp_path / "export"}


class Epochs(keras.callbacks.Callback):
    """Keeps the ends of epochs that it is told of."""

    def __init__(self):
        super().__init__()
        self.ended = []

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append((epoch, logs["val_joint"]))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of two epochs, what it printed, and its `Epochs`; only to be read."""
    folder, out, epochs = tmp_path_factory.mktemp("finished"), io.StringIO(), Epochs()
    places = {"run": folder / "run", "export": folder / "export"}
    with contextlib.redirect_stdout(out):
        pretrained = pretrain(data, "quick", **SETTINGS, seed=3, **places, callbacks=[epochs])
    return pretrained, out.getvalue(), epochs


def test_what_comes_back_is_what_was_written(data, finished):
    pretrained, out, _ = finished
    run = pretrained.run
    train, validation = data.split(seed=3)
    assert f"Training on {len(train)} images, validating on {len(validation)}." in out
    assert f"Encoder: {pretrained.version}\nHint: on real images" in out
    assert pretrained.version == run.parent / "export" / "encoder" / "1"
    result = json.loads((run / "result.json").read_text())
    assert result["validation"] == pretrained.validation
    assert (result["best_epoch"], result["tags_known"]) == (pretrained.epoch, {"tags": 1.0})
    config = json.loads((run / "config.json").read_text())
    assert (config["tags"], config["image_size"], config["width"]) == ("arrays", [32, 32], 1 / 32)
    assert config["g_learning_rate"] == 1e-3  # as of the preset
    lines = (run / "split.csv").read_text().splitlines()
    sides = ["validation" if k in validation.rows else "train" for k in range(15)]
    assert lines[1:] == [f"{k},{PATIENTS[k]},{side}" for k, side in enumerate(sides)]
    metadata = json.loads((pretrained.version / "encoder.json").read_text())
    assert (metadata["preset"], metadata["synthetic_data"]) == ("quick", False)
    assert metadata["tag_vocabulary"] == ["a", "b"]
    exported = load_encoder(pretrained.version, trainable=False)
    x = next(iter(data.batches(15)))[0]
    np.testing.assert_allclose(
        exported(x)["P5"], pretrained.encoder(x, training=False)["P5"], atol=1e-6
    )


def test_a_run_that_has_ended_is_read_again(data, finished, capsys):
    first, _, _ = finished
    export = first.run.parent / "export"
    again = pretrain(data, "quick", **SETTINGS, seed=3, run=first.run, export=export, resume=True)
    assert "is finished" in capsys.readouterr().out
    assert (again.epoch, again.validation) == (first.epoch, first.validation)
    assert (again.run, again.version) == (first.run, None)
    for a, b in zip(again.encoder.get_weights(), first.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_of_an_earlier_version_is_continued(data, finished, tmp_path, capsys):
    run = shutil.copytree(finished[0].run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["sync_batchnorm"], config["exclude"]  # as of a version that did not have them
    (run / "config.json").write_text(json.dumps(config))
    arguments = {**SETTINGS, "seed": 3, "run": run, "export": None, "resume": True}
    with pytest.raises(UserError, match="has sync_batchnorm False, this command has True"):
        pretrain(data, "quick", **arguments, sync_batchnorm=True)
    pretrain(data, "quick", **arguments)
    assert "is finished" in capsys.readouterr().out
    pretrain(data, "quick", **arguments | {"epochs": 3})
    assert json.loads((run / "config.json").read_text())["exclude"] == []


def test_callbacks_are_told_and_start_anew_on_a_resume(data, finished, tmp_path):
    pretrained, _, epochs = finished
    run, longer = shutil.copytree(pretrained.run, tmp_path / "run"), Epochs()
    settings = SETTINGS | {"epochs": 3, "seed": 3}
    pretrain(data, "quick", **settings, run=run, export=None, resume=True, callbacks=[longer])
    assert [epoch for epoch, _ in epochs.ended] == [0, 1]
    assert [epoch for epoch, _ in longer.ended] == [2]
    rows = (run / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_joint")
    told = [joint for _, joint in epochs.ended + longer.ended]
    assert [float(row.split(",")[column]) for row in rows[1:]] == pytest.approx(told, rel=1e-6)


def test_without_tags(places):
    data = UltrasoundDataset.from_arrays(IMAGES)
    with pytest.raises(UserError, match="No image has a tag"):
        pretrain(data, **SETTINGS, **places)
    places["export"] = None
    pretrained = pretrain(data, **SETTINGS | {"epochs": 1}, **places, use_dicom=False)
    assert pretrained.validation["p"] == 0
    lines = (places["run"] / "tensorboard" / "validation" / "labels.tsv").read_text().split()
    assert len(lines) == 3  # a row an image


def test_files_of_a_run_are_this_users_alone_but_for_the_model(finished):
    pretrained, _, _ = finished
    assert pretrained.run.stat().st_mode & 0o077 == 0
    assert (pretrained.version / "encoder.json").stat().st_mode & 0o044 == 0o044


def test_mistakes_are_named_before_anything_is_made(data, places):
    for arguments, message in (
        ({"preset": "fast"}, "preset fast: choose from paper, full, quick"),
        ({"image_size": [64, 64]}, r"image_size \[64, 64\]: the data set has \(32, 32\)"),
        ({"tags": "ultrasound"}, "tags ultrasound: the data set has arrays"),
        ({"epochs": 0}, "--epochs 0: choose 1 or more"),
        ({"lambda_rec": 0, "lambda_adv": 0}, "are all 0"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain(data, **arguments, **places)
    with pytest.raises(TypeError, match="epoch"):
        pretrain(data, epoch=3, **places)
    assert not places["run"].exists()
    assert not places["export"].exists()


def test_the_classes_of_files_travel_to_the_head(write, places, tmp_path):
    """An encoder of CT, a linear head of CT on it, and no ultrasound."""
    ct = "1.2.840.10008.5.1.4.1.1.2"
    schema = tmp_path / "ct.toml"
    schema.write_text(
        'name = "ct"\nsop_classes = ["CT Image Storage"]\n'
        '[[tag]]\nname = "study"\nelement = "StudyDescription"\nlabels = ["a", "b"]\n'
        'map = { "A" = ["a"], "B" = ["b"] }\n'
    )
    rows = []
    for k in range(20):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32), np.uint8)
        own = {"SOPClassUID": ct, "StudyDescription": "AB"[k % 2], "PatientID": f"{k}"}
        write(f"src/{k}.dcm", pixels, **own)
        rows.append(f"{k}.dcm,{k % 2},{('train', 'train', 'validation', 'test')[k // 2 % 4]}")
    source, labels = tmp_path / "src", tmp_path / "labels.csv"
    labels.write_text("\n".join(["path,label,split", *rows]) + "\n")
    data = UltrasoundDataset.from_dicom(source, tags=schema, image_size=(32, 32))
    pretrained = pretrain(data, "quick", **SETTINGS | {"epochs": 1}, **places)
    content = json.loads((pretrained.version / "encoder.json").read_text())
    assert content["sop_classes"] == [ct]
    own = {"encoder": pretrained.version, "data": source, "labels": labels, "head": "linear"}
    head = finetune("classification", **own, run=tmp_path / "head", export=places["export"])
    assert json.loads((head.version / "classification.json").read_text())["sop_classes"] == [ct]
