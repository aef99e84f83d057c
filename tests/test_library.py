"""The lines of README and docs/library.md, run as they stand but for sizes and places."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_dicom_ce
from tf_dicom_ce.models.backbones import Backbone
from tf_dicom_ce.phantom import cohort

# Keras says so of every tf.data.
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")

ROOT = Path(__file__).parents[1]
SMALLER = {
    "(256, 384)": "(32, 64)",
    "VGG16Encoder()": "VGG16Encoder(width_multiplier=1 / 32)",
    "len(data.labels))": "len(data.labels), width_multiplier=1 / 32)",
    "Adam(1e-5))": "Adam(1e-5), run_eagerly=True)",  # a few steps: no graph is worth its time
    "unet.compile(keras.optimizers.Adam(1e-4))": "unet.compile(run_eagerly=True)",
    "epochs=200": "epochs=1, verbose=0",
    "epochs=500": "epochs=1, verbose=0",
}


def block(page, start):
    """The first block of Python of a page that holds `start`, made small."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (text, *_) = (block for block in blocks if start in block)
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    return text


def images(count, seed):
    """z-scored, and masks of three classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 32, 64, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((x, (x[..., 0] > 0) * 1 + (x[..., 0] > 1))).batch(4)


def test_readme(tmp_path, monkeypatch):
    """On a few images of the phantom."""
    monkeypatch.chdir(tmp_path)
    stages = cohort.PRESETS["quick"].items()
    few = {stage: dict.fromkeys(splits, (1, 1)) for stage, splits in stages}
    few["pretraining"] = {"": (12, 6)}
    monkeypatch.setitem(cohort.PRESETS, "quick", few)
    lines = block("README.md", "from_dicom").replace('from_dicom("SRC", ', "from_phantom(")
    names = {}
    exec(lines, names)
    assert set(names["train"].patients).isdisjoint(names["validation"].patients)
    history = names["gan"].history.history
    assert {"joint", "rec", "val_joint", "val_rec"} < set(history)
    assert np.isfinite(history["val_joint"]).all()
    more = {name: getattr(tf_dicom_ce, name) for name in ("UNet", "load_encoder", "load_head")}
    labelled, held_out = images(4, 0), images(4, 1)
    names |= more | {"keras": keras, "labelled": labelled, "held_out": held_out}
    names["gray_levels"] = np.full((1, 50, 70, 1), 100.0)
    exec(block("docs/library.md", "labelled"), names)
    answers = tf_dicom_ce.load_head("export/segmentation")(names["gray_levels"])
    assert answers["mask"].shape == (1, 32, 64)
    np.testing.assert_allclose(answers["probabilities"].sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_resnet50():
    """The ten lines on a network of keras.applications, with random weights."""
    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet50(
        include_top=False, input_shape=(None, None, 3), weights=None
    )
    gan = tf_dicom_ce.ContextEncoderGAN(
        encoder=Backbone(network, preprocessing="caffe"),
        discriminator=tf_dicom_ce.ProjectionDiscriminator(labels=11, width_multiplier=1 / 32),
    )
    adams = {f"{side}_optimizer": keras.optimizers.Adam(1e-3) for side in "gd"}
    gan.compile(**adams, run_eagerly=True)
    x, y = np.random.default_rng(0).normal(size=(4, 32, 64, 1)), np.eye(4, 11)
    before = gan.encoder.get_weights()
    train = tf.data.Dataset.from_tensor_slices((x, {"tags": y})).batch(4)
    history = gan.fit(train, epochs=1, verbose=0).history
    assert np.isfinite(history["joint"]).all()
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, gan.encoder.get_weights(), strict=True)
    ]
    assert np.mean(moved) > 0.9
