"""The fused batch normalisation against the formula in float64, and against Keras' layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.conv_bn_relu import FusedBatchNormalization

SHAPE = (3, 4, 5, 6)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 2.0, SHAPE).astype(np.float32)
    return x, rng.normal(size=SHAPE).astype(np.float32), rng.uniform(0.5, 2, (2, SHAPE[-1]))


def layer(gamma, beta, **settings):
    found = FusedBatchNormalization(**settings)
    found.build(SHAPE)
    found.gamma.assign(gamma)
    found.beta.assign(beta)
    return found


def test_forward_backward_and_moving_statistics(arrays):
    x, upstream, (gamma, beta) = arrays
    fused = layer(gamma, beta)
    with tf.GradientTape() as tape:
        images = tf.constant(x)
        tape.watch(images)
        y = fused(images, training=True)
    dx, dgamma, dbeta = tape.gradient(
        y, [images, fused.gamma.value, fused.beta.value], tf.constant(upstream)
    )
    n, axes = x[..., 0].size, (0, 1, 2)
    mean, variance = x.mean(axes, np.float64), x.astype(np.float64).var(axes)
    normal = (x - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(y, gamma * normal + beta, atol=1e-5)
    np.testing.assert_allclose(dgamma, (upstream * normal).sum(axes), atol=1e-5)
    np.testing.assert_allclose(dbeta, upstream.sum(axes, np.float64), atol=1e-5)
    centred = upstream - upstream.mean(axes) - normal * (upstream * normal).sum(axes) / n
    np.testing.assert_allclose(dx, gamma / np.sqrt(variance + 1e-5) * centred, atol=1e-5)
    np.testing.assert_allclose(fused.moving_mean, 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(fused.moving_variance, 0.9 + 0.1 * variance, atol=1e-6)


@pytest.mark.parametrize("trainable", [True, False])
def test_as_keras_layer_at_its_moving_statistics(arrays, trainable):
    x, _, (gamma, beta) = arrays
    stock = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    stock.build(SHAPE)
    fused = layer(gamma, beta)
    for v, value in zip(stock.variables, (gamma, beta, beta, gamma), strict=True):
        v.assign(value)
    fused.set_weights(stock.get_weights())
    fused.trainable = trainable
    # Not trainable, it stays at its statistics in training too.
    y = fused(x, training=not trainable)
    np.testing.assert_allclose(y, stock(x, training=False), atol=1e-6)
    np.testing.assert_array_equal(fused.moving_mean, stock.moving_mean)


@pytest.mark.parametrize("policy, digits", [("mixed_bfloat16", 0.03), ("mixed_float16", 0.004)])
def test_half_precision_in_and_out_with_float32_statistics(arrays, policy, digits):
    x, _, (gamma, beta) = arrays
    half, full = layer(gamma, beta, dtype=policy), layer(gamma, beta)
    y = half(x, training=True)
    assert y.dtype == half.compute_dtype
    np.testing.assert_allclose(tf.cast(y, tf.float32), full(x, training=True), atol=2 * digits)
    assert half.moving_variance.dtype == "float32"
    np.testing.assert_allclose(half.moving_variance, full.moving_variance, rtol=digits)
