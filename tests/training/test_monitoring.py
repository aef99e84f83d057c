import csv

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.data.datasets import StepOrder, evaluation_dataset, training_dataset
from tf_dicom_ce.training.panels import inpainting_panel
from tf_dicom_ce.training.pretrain import pretrain

CONFIG = PretrainConfig(
    image_size=(32, 32), width=1 / 32, batch_size=4, epochs=3, g_learning_rate=1e-2, panel_every=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 32)[None, :, None, None]
    frames = (ramp + rng.integers(0, 50, (16, 32, 32, 1))).astype(np.uint8)
    y = np.eye(16, 10, dtype=np.float32)
    order = StepOrder(np.arange(12), 4, 0)
    pretrained = pretrain(
        CONFIG,
        10,
        training_dataset(frames.__getitem__, y, order, (32, 32), 0),
        order.steps_per_epoch,
        evaluation_dataset(frames.__getitem__, y, np.arange(12, 16), 4, (32, 32)),
        np.zeros((2, 32, 32, 1), np.float32),
        run,
    )
    return run, pretrained


def test_the_best_epoch_is_kept(finished):
    run, pretrained = finished
    with (run / "history.csv").open() as file:
        joints = [float(row["val_joint"]) for row in csv.DictReader(file)]
    assert len(joints) == 3
    assert pretrained.epoch == 1 + int(np.argmin(joints))
    # The weights that were loaded back give that epoch's value again.
    assert pretrained.validation["joint"] == pytest.approx(min(joints), rel=1e-6)


def test_tensorboard_has_every_scalar_and_the_panels(finished):
    run, _ = finished
    tags = {"train": {}, "validation": {}}
    for side, found in tags.items():
        for path in (run / "tensorboard" / side).iterdir():
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    found.setdefault(value.tag, []).append(event.step)
    scalars = {tag for tag in tags["train"] if tag.startswith(("loss/", "discriminator/"))}
    assert len(scalars) == 9
    assert scalars < set(tags["validation"])
    assert {"gradient norm/F", "gradient norm/D", "learning rate/F", "learning rate/D"} < set(
        tags["train"]
    )
    assert all(steps == [1, 2, 3] for steps in tags["train"].values())
    assert tags["validation"]["inpainting"] == [1, 2, 3]
    assert sorted(p.name for p in (run / "panels").iterdir()) == [
        f"epoch_000{k}.png" for k in (1, 2, 3)
    ]


def test_the_panel_shows_hole_prediction_and_truth():
    images = np.full((1, 32, 32, 1), 2.5, np.float32)  # white

    def paints_black(x):
        x = x.copy()
        x[:, 8:24, 8:24] = -2.5
        return x

    panel = inpainting_panel(paints_black, images)
    zoom = 192 // 32
    columns = [panel[16:, k * (192 + 4) : k * (192 + 4) + 192, 0] for k in range(3)]
    centres = [int(column[16 * zoom, 16 * zoom]) for column in columns]
    assert centres == [128, 0, 255]  # the mean is mid-gray (127.5 rounds to even)
    assert all((column[zoom, zoom] == 255).all() for column in columns)
    Image.fromarray(panel)  # a picture
