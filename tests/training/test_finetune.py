"""Freezing and tuning an exported encoder; a head that stands alone; one image, three forms."""

import dataclasses
import io
import shutil
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.models.backbones import load_encoder
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.models.heads import Classifier
from tf_dicom_ce.preprocessing import resize, standardise
from tf_dicom_ce.saved_model.writing import in_float32
from tf_dicom_ce.training.finetune import _temperature
from tf_dicom_ce.training.networks import build_head

SIZE = (32, 64)
CONFIG = FinetuneConfig(image_size=SIZE, width=1 / 32, learning_rate=1e-2)
TASKS = {
    "classification": (CONFIG, 5, np.arange(8, dtype=np.int32) % 5),
    "categorical": (
        dataclasses.replace(CONFIG, label_encoding="categorical"),
        3,
        np.arange(8, dtype=np.int32) % 3,
    ),
    "segmentation": (
        dataclasses.replace(CONFIG, task="segmentation"),
        3,
        np.random.default_rng(0).integers(0, 3, (8, *SIZE)).astype(np.uint8),
    ),
}
X = np.random.default_rng(1).normal(size=(8, *SIZE, 1)).astype(np.float32)


def fitted(task, encoder, freeze, run_eagerly=True):
    config, classes, targets = TASKS[task]
    layer = load_encoder(encoder) if encoder else VGG16Encoder(config.width)
    head = build_head(dataclasses.replace(config, freeze=freeze), layer, classes)
    before = [v.numpy() for v in layer.variables]
    own = [v.numpy() for v in head.trainable_variables[-2:]]
    head.compile(keras.optimizers.Adam(1e-2), run_eagerly=run_eagerly, jit_compile=False)
    head.fit(X, targets, batch_size=8, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, layer.variables, strict=True)]
    assert all(
        not np.array_equal(a, b) for a, b in zip(own, head.trainable_variables[-2:], strict=True)
    )
    return head, changed


@pytest.mark.parametrize(
    ("task", "form"),
    [
        ("classification", "folder"),
        ("segmentation", "folder"),
        ("categorical", "encoder.keras"),
    ],
)
def test_frozen_is_bit_identical_and_tuned_moves_every_variable(exported, task, form):
    """In a graph and eagerly."""
    encoder = exported[1].parent if form == "folder" else exported[1] / form
    run_eagerly = task != "classification"
    _, changed = fitted(task, encoder, freeze=True, run_eagerly=run_eagerly)
    assert len(changed) == 13 * 5
    assert not any(changed)
    _, changed = fitted(task, encoder, freeze=False, run_eagerly=run_eagerly)
    assert all(changed)


def test_from_scratch_is_the_same_architecture(exported):
    scratch, changed = fitted("segmentation", None, freeze=False)
    assert all(changed)
    tuned, _ = fitted("segmentation", exported[1], freeze=False)
    count = [sum(v.shape.num_elements() for v in m.trainable_variables) for m in (scratch, tuned)]
    assert count[0] == count[1]
    _, changed = fitted("segmentation", None, freeze=True)
    assert len(changed) == 13 * 5
    assert not any(changed)


@pytest.mark.parametrize(
    ("task", "precision"), [("classification", "bfloat16"), ("segmentation", "float16")]
)
def test_a_head_in_half_precision(exported, task, precision):
    """It computes in half, its logits are float32, and what is exported is float32 throughout."""
    config, classes, _ = TASKS[task]
    half = dataclasses.replace(config, precision=precision)
    head = build_head(half, None, classes)
    computing = {layer.compute_dtype for layer in head._flatten_layers() if layer.weights}
    assert precision in computing
    assert {v.dtype for v in head.trainable_variables} == {"float32"}
    logits = head(X, training=False)
    assert logits.dtype == "float32"
    copy = in_float32(head)
    assert {layer.compute_dtype for layer in copy._flatten_layers()} == {"float32"}
    for ours, theirs in zip(copy.weights, head.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert in_float32(copy) is copy
    exact = copy(X, training=False)
    # bfloat16 has 8 bits of mantissa, float16 has 11; some twenty layers follow each other.
    tolerance = {"bfloat16": 0.1, "float16": 0.02}[precision] * np.abs(exact).max()
    assert 0 < np.abs(logits - exact).max() < tolerance
    # On an exported encoder, which is float32, the head alone computes in half.
    head = build_head(half, load_encoder(exported[1]), classes)
    assert head(X, training=True).dtype == "float32"
    found, exact = head(X, training=False), in_float32(head)(X, training=False)
    assert 0 < np.abs(found - exact).max() < tolerance


#: Answers of exported heads to `image.npy`, written into their folders.
ANSWER = """
import sys, numpy as np
sys.modules |= {"matplotlib": None, "sklearn": None}  # Keras would import them
import tensorflow as tf
for folder in sys.argv[1:]:
    f = tf.saved_model.load(folder).signatures["serving_image"]
    out = f(image=tf.constant(np.load("image.npy")))
    np.savez(folder + "/out.npz", **{k: v.numpy() for k, v in out.items()})
"""


@pytest.mark.slow
def test_the_exported_heads_stand_alone(exported, tmp_path):
    """In a fresh process, with the folder of the encoder gone, tuned or frozen."""
    own = tmp_path / "encoder" / "1"
    shutil.copytree(exported[1], own)
    heads = [fitted("classification", own, False)[0], fitted("categorical", own, True)[0]]
    folders = [head.export(tmp_path / "out") for head in heads]
    shutil.rmtree(own)
    image = np.random.default_rng(2).integers(0, 256, (1, 50, 60, 1)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    command = [sys.executable, "-c", ANSWER, *folders]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    for head, folder in zip(heads, folders, strict=True):
        here = head.answer(head(standardise(resize(image, SIZE)), training=False))
        there = np.load(folder / "out.npz")
        assert set(there) == set(here)
        for name, value in here.items():
            np.testing.assert_allclose(there[name], value, atol=1e-6, err_msg=name)


def test_dicom_png_and_tensor_of_one_image_agree(heads, write):
    folder = heads / "classification" / "1"
    pixels = np.random.default_rng(3).integers(0, 256, (50, 60), dtype=np.uint8)
    frame = read_frame(write("a.dcm", pixels)).pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    signatures = tf.saved_model.load(str(folder)).signatures
    answers = [
        signatures["serving_image"](image=tf.constant(frame[None, ..., None], tf.float32)),
        signatures["serving_image"](image=tf.constant(pixels[None, ..., None], tf.float32)),
        signatures["serving_default"](image_bytes=tf.constant([file.getvalue()])),
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer["probabilities"], answers[0]["probabilities"])
        np.testing.assert_array_equal(answer["class_id"], answers[0]["class_id"])


def test_an_image_of_three_channels_is_refused_in_the_graph(exported):
    """An eager call does not look at the signature, and took it for three rows."""
    encoder = tf.saved_model.load(str(exported[1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2,50,60,3\] is not compatible"):
        encoder.signatures["serving_image"](image=tf.zeros((2, 50, 60, 3)))


@pytest.mark.parametrize("ordinal", [True, False])
def test_the_temperature_is_found(ordinal):
    """Labels are drawn from the logits' probabilities; then the logits grow to three times."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(4000, 2 if ordinal else 3)).astype("f4")
    logits = np.sort(logits)[:, ::-1] if ordinal else logits
    model = Classifier(keras.layers.Identity(), 3, ordinal=ordinal)
    shares = model.answer(tf.constant(logits))["probabilities"].numpy()
    labels = (shares.cumsum(1)[:, :-1] < rng.uniform(size=(4000, 1))).sum(1)
    task = SimpleNamespace(split=SimpleNamespace(validation=np.arange(4000)), targets=labels)
    found = _temperature(model, [{"logits": 3 * row} for row in logits], task)
    assert found == pytest.approx(3, rel=0.1)
    model.temperature = found
    answers = [model.answer(tf.constant(k * logits)) for k in (3, 3 / found)]
    same = Classifier.from_config(model.get_config())
    assert same.temperature == found
    np.testing.assert_array_equal(answers[0]["class_id"], answers[1]["class_id"])
    np.testing.assert_allclose(answers[0]["probabilities"], shares, atol=0.05)
