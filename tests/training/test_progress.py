import csv

import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.training import progress
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


@pytest.fixture
def train(monkeypatch, capsys):
    """Steps that end at given seconds, of 2 epochs of 1,000; the lines, without a terminal."""

    def run(seconds, first=0):
        clock = iter(seconds)
        monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
        bar = progress.ProgressBar(())
        bar.set_params({"epochs": 2, "steps": 1000, "first_step": first})
        bar.on_train_begin()
        for step in range(len(seconds)):
            bar.on_train_batch_end((first + step) % 1000)
        bar.on_train_end()
        return capsys.readouterr().err.splitlines()

    return run


def test_it_says_how_long_it_will_take(train):
    """The first step, which builds the graph, does not count: 3 steps in 6 s, 1,996 left."""
    assert train([100, 102, 104, 106]) == [
        "A step takes 2 s; the training will take 67 minutes or more."
    ]
    _, _, slow, _ = train([100, 190, 280, 370])  # 1,996 steps of 90 s: 49.9 hours
    assert slow.startswith("A step takes 90 s; the training will take 2 days or more.")
    assert slow.endswith("Without one, --preset quick has images and networks for CPU cores.")
    assert train([100, 100.2, 100.4, 100.6]) == []  # 7 minutes
    assert train([100, 102, 104, 106], first=1900) == []  # 96 steps left: 3 minutes


def test_without_a_terminal_there_is_a_line_every_minute(train):
    """A step each half second."""
    lines = train([k / 2 for k in range(250)], first=900)
    assert lines == [
        "epoch 2/2  step 1021/2000  8 minutes left",
        "epoch 2/2  step 1141/2000  7 minutes left",
    ]
