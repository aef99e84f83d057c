"""The fused batch normalisation against the formula in float64, and against Keras' layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.conv_bn_relu import FusedBatchNormalization, with_fused_norms

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


def test_a_network_with_fused_norms_is_the_same_network():
    """One step of training: output, gradients and moving statistics; then the output in use."""
    keras.utils.set_random_seed(0)
    like = {"include_top": False, "input_shape": (None, None, 3), "alpha": 0.35}
    network = keras.applications.MobileNetV2(weights=None, **like)
    fused = with_fused_norms(network)
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) > 50
    for norm in norms:
        assert type(fused.get_layer(norm.name)) is FusedBatchNormalization
    assert [v.path for v in fused.variables] == [v.path for v in network.variables]
    x, found = tf.random.stateless_normal((4, 64, 64, 3), (1, 2)), []
    for model in (network, fused):
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            loss = tf.reduce_mean(tf.square(y - 0.5))
        gradients = tape.gradient(loss, model.trainable_variables)
        moving = [v.numpy() for v in model.non_trainable_variables]
        found.append((y.numpy(), float(tf.linalg.global_norm(gradients)), moving, model(x).numpy()))
    (y, norm, moving, used), (of_fused, its_norm, its_moving, its_use) = found
    np.testing.assert_allclose(of_fused, y, atol=2e-4)
    np.testing.assert_allclose(its_norm, norm, rtol=2e-3)
    np.testing.assert_allclose(its_use, used, atol=1e-4)
    for a, b in zip(its_moving, moving, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
