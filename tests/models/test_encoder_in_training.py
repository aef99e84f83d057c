"""Ways through the encoder in training, against its layers one after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models import conv_bn_relu
from tf_dicom_ce.models.encoder import VGG16Encoder


@pytest.fixture
def encoder():
    keras.utils.set_random_seed(0)
    found = VGG16Encoder(1 / 16)
    found.build((None, 32, 64, 1))
    return found


def one_after_the_other(encoder, x):
    for block in encoder.blocks:
        for layer in block.convolutions:
            x = tf.nn.relu(layer.norm(layer.conv(x), training=True))
        x = block.pool(x)
    return x


def trained(encoder, call, x):
    """P5, its gradient to the image and to all weights, and the statistics after it."""
    before = encoder.get_weights()
    rng = np.random.default_rng(1)

    @tf.function(autograph=False)
    def run(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            p5 = call(x)
        return p5, tape.gradient(p5, [x, *encoder.trainable_variables], upstream)

    p5, gradients = run(x, rng.normal(size=(4, 1, 2, 32)).astype(np.float32))
    statistics = [v.numpy() for v in encoder.non_trainable_variables]
    encoder.set_weights(before)
    return [p5, *gradients, *statistics]


@pytest.mark.parametrize("way", ["plain", "recomputed", "in halves"])
def test_as_the_layers_one_after_the_other(monkeypatch, encoder, way):
    threads = 1 if way == "in halves" else 2
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: threads)
    monkeypatch.setattr(conv_bn_relu, "RECOMPUTED_FROM", 1 if way == "recomputed" else 2**20)
    x = tf.constant(np.random.default_rng(2).normal(size=(4, 32, 64, 1)).astype(np.float32))
    expected = trained(encoder, lambda x: one_after_the_other(encoder, x), x)
    found = trained(encoder, lambda x: encoder(x, training=True)["P5"], x)
    assert len(found) == 2 + 13 * 3 + 13 * 2
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_a_frozen_encoder_stays_at_its_statistics(encoder):
    x = tf.random.stateless_normal((4, 32, 64, 1), (0, 0))
    before = encoder.get_weights()
    encoder.trainable = False
    np.testing.assert_array_equal(encoder(x, training=True)["P5"], encoder(x)["P5"])
    for old, new in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("recomputed_from", [1, 2**20])
def test_a_layer_frozen_by_itself_stays_at_its_statistics(monkeypatch, encoder, recomputed_from):
    monkeypatch.setattr(conv_bn_relu, "RECOMPUTED_FROM", recomputed_from)
    x = tf.random.stateless_normal((4, 32, 64, 1), (0, 0))
    frozen = encoder.blocks[1].convolutions[0]
    frozen.trainable = False
    before = encoder.get_weights()
    still = {id(v) for v in frozen.variables}
    with tf.GradientTape() as tape:
        p5 = encoder(x, training=True)["P5"]
    gradients = tape.gradient(p5, encoder.trainable_variables)
    assert len(gradients) == 12 * 3
    assert all(g is not None for g in gradients)
    for old, v in zip(before, encoder.variables, strict=True):
        moves = "moving" in v.path and id(v) not in still
        assert np.array_equal(old, v) != moves, v.path


def test_any_height_and_width(encoder):
    """Where the size is not known when the graph is made, the result is the same."""
    x = tf.random.stateless_normal((4, 32, 64, 1), (0, 0))
    expected = one_after_the_other(encoder, x)
    call = tf.function(
        lambda x: encoder(x, training=True)["P5"],
        input_signature=[tf.TensorSpec((None, None, None, 1))],
    )
    np.testing.assert_allclose(call(x), expected, rtol=1e-4, atol=1e-5)
