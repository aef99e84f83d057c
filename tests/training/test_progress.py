import csv

import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.training.pretrain import pretrain

SETTINGS = {"width": 1 / 32, "batch_size": 4, "epochs": 3, "g_learning_rate": 0.01}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 32)[None, :, None, None]
    frames = (ramp + rng.integers(0, 50, (16, 32, 32, 1))).astype(np.uint8)
    tags = {"study": "abcdefgh", "probe": ("linear", "curvilinear")}
    data = UltrasoundDataset.from_arrays(frames, np.eye(16, 10), labels=tags)
    return run, pretrain(data, **SETTINGS, panel_every=2, run=run, export=None)


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
        for path in (run / "tensorboard" / side).glob("events*"):
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
    assert tags["train"].pop("run/configuration") == [0]
    assert all(steps == [1, 2, 3] for steps in tags["train"].values())
    assert tags["validation"]["sensitivity"] == [1, 2, 3]
    assert tags["validation"]["inpainting"] == [1, 2, 3]
    assert sorted(p.name for p in (run / "panels").iterdir()) == [
        f"epoch_000{k}.png" for k in (1, 2, 3)
    ]
