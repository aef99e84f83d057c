"""What is written for TensorBoard."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.plugins.hparams import metadata

from tf_dicom_ce.training.tensorboard import TensorBoard, markdown_table, write_hparams


def read(folder):
    """Tag -> [(step, value)] of all event files of a folder."""
    found = {}
    for path in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def steps(found, tag):
    return [step for step, _ in found[tag]]


@pytest.fixture
def written(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1, name="dense")])
    model.build((None, 2))
    model.optimizer = keras.optimizers.Adam(0.25)
    picture = np.full((4, 6, 3), 7, np.uint8)
    board = TensorBoard(
        tmp_path,
        {"loss": "loss/loss", "norm": "norm/F"},
        {"F": "optimizer"},
        {"first": lambda model: picture, "second": lambda model: picture + 1},
        2,
        {"width": 0.25, "environment": {"keras": "3"}},
        histograms=True,
    )
    board.set_model(model)
    board.set_params({"epochs": 5})
    board.on_train_begin()
    for epoch in range(5):
        board.on_epoch_end(epoch, {"loss": 1.0, "norm": 2.0, "val_loss": 3.0})
    board.on_train_end()
    return (
        tmp_path,
        read(tmp_path / "tensorboard" / "train"),
        read(tmp_path / "tensorboard" / "validation"),
    )


def test_scalars_of_both_sides_and_learning_rates(written):
    _, train, validation = written
    assert steps(train, "loss/loss") == steps(validation, "loss/loss") == [1, 2, 3, 4, 5]
    assert steps(train, "learning rate/F") == [1, 2, 3, 4, 5]
    assert "norm/F" in train
    assert "norm/F" not in validation


def test_pictures_and_histograms_at_the_first_the_last_and_every_second_epoch(written):
    folder, train, validation = written
    assert steps(validation, "first") == steps(validation, "second") == [1, 2, 4, 5]
    names = sorted(path.name for path in (folder / "panels").iterdir())
    assert names == [f"epoch_000{k}.png" for k in (1, 2, 4, 5)]
    assert np.asarray(Image.open(folder / "panels" / names[0])).max() == 7
    histograms = [tag for tag in train if tag.startswith("weights/")]
    assert len(histograms) == 2
    assert steps(train, histograms[0]) == [1, 2, 4, 5]


def test_the_configuration_is_a_table_at_step_0(written):
    _, train, _ = written
    step, value = train["run/configuration"][0]
    assert step == 0
    text = value.tensor.string_val[0].decode()
    assert "| width | 0.25 |" in text
    assert "| environment / keras | 3 |" in text


def test_a_bar_or_a_new_line_does_not_break_the_table():
    assert markdown_table({"a": "x|y\nz"}).splitlines()[2:] == ["| a | x\\|y z |"]


def test_hparams_hold_every_setting_and_the_final_metrics(tmp_path):
    settings = {"size": (64, 96), "rate": 1e-3, "batch": 8, "tags": "ultrasound", "flip": False}
    write_hparams(tmp_path / "run 7", settings, {"rec": 0.5}, 3)
    found = read(tmp_path / "run 7" / "tensorboard" / "final")
    (step, value), *_ = found["final/rec"]
    assert (step, float(tf.make_ndarray(value.tensor))) == (3, 0.5)
    (_, value), *_ = found[metadata.SESSION_START_INFO_TAG]
    started = metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content)
    assert started.group_name == "run 7"
    assert {name: getattr(v, v.WhichOneof("kind")) for name, v in started.hparams.items()} == {
        "size": "64x96", "rate": 1e-3, "batch": 8, "tags": "ultrasound", "flip": False
    }  # fmt: skip
    assert metadata.EXPERIMENT_TAG not in found
