"""Shapes and exact parameter counts at full width; the projection term against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.decoder import Decoder
from tf_dicom_ce.models.discriminator import (
    AuxiliaryDiscriminator,
    Discriminator,
    ProjectionDiscriminator,
    leaky_relu,
)
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.models.spectral import SpectralNormalization


@pytest.fixture(scope="module")
def encoder():
    network = VGG16Encoder()
    network.build((None, 256, 384, 1))
    return network


@pytest.fixture(scope="module")
def decoder():
    network = Decoder()
    network.build((None, 8, 12, 512))
    return network


def test_paper_size_goes_through_8_12_512_to_the_patch(encoder, decoder):
    x = tf.zeros((1, 256, 384, 1))
    assert {name: tuple(scale.shape) for name, scale in encoder(x).items()} == {
        "P1": (1, 128, 192, 64),
        "P2": (1, 64, 96, 128),
        "P3": (1, 32, 48, 256),
        "P4": (1, 16, 24, 512),
        "P5": (1, 8, 12, 512),
    }
    assert decoder(encoder(x)["P5"]).shape == (1, 128, 192, 1)


def test_encoder_parameters(encoder):
    """torchvision's vgg16_bn.features has 14,723,136 (14,714,688 in convolutions, biases in).

    Less 4,224 biases, less the kernels of two input channels (2 · 9 · 64); plus the moving means
    and variances (2 · 4,224), which torchvision counts as buffers.
    """
    trainable = 14_723_136 - 4_224 - 2 * 9 * 64
    assert sum(v.shape.num_elements() for v in encoder.trainable_variables) == trainable
    assert encoder.count_params() == trainable + 2 * 4_224


def test_decoder_parameters(decoder):
    kernels = 9 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 32)
    norms = 4 * (256 + 128 + 64 + 32)
    assert decoder.count_params() == kernels + norms + 9 * 32 + 1


def test_discriminator_parameters():
    d = ProjectionDiscriminator(labels=10)
    d.build((None, None, None, 1))
    kernels = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    biases = 64 + 128 + 256 + 512
    assert d.count_params() == kernels + biases + (512 + 1) + 512 * 10


def test_width_scales_every_channel_count():
    encoder = VGG16Encoder(width_multiplier=1 / 16)
    scales = encoder(tf.zeros((1, 32, 64, 1)))
    assert [scale.shape[-1] for scale in scales.values()] == [4, 8, 16, 32, 32]


@pytest.fixture
def d():
    keras.utils.set_random_seed(1)
    network = ProjectionDiscriminator(labels=3, width_multiplier=1 / 32)
    network.build((None, None, None, 1))
    return network


def representation(d, x):
    """D̃(x)."""
    for layer in d.d_tilde:
        x = layer(x)
    return np.asarray(x)


def test_projection_against_numpy(d):
    """D(x, y) = C_rf(D̃(x)) + D̃(x)ᵀ W y, example by example, with explicit sums."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 16, 32, 1)).astype(np.float32)
    y = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], np.float32)
    d_tilde = representation(d, x)
    w = d.w.numpy()
    kernel, bias = (v.numpy() for v in d.c_rf.variables)
    out = d(x, y)
    for n in range(4):
        p = sum(
            d_tilde[n, i] * w[i, j] * y[n, j] for i in range(w.shape[0]) for j in range(w.shape[1])
        )
        c_rf = sum(d_tilde[n, i] * kernel[i, 0] for i in range(w.shape[0])) + bias[0]
        np.testing.assert_allclose(out["p"][n], p, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(out["logit"][n], c_rf + p, rtol=1e-4, atol=1e-6)
    assert np.abs(out["p"][0]) > 1e-4  # the test would otherwise hold for a dead W


def test_representation_against_numpy(d):
    """D̃ by plain loops: 4×4 convolutions of stride 2 (same padding), leaky ReLU, average."""
    x = np.random.default_rng(1).normal(size=(1, 16, 16, 1)).astype(np.float32)
    h = x[0].astype(np.float64)
    convolutions = [c for c in d.d_tilde if isinstance(c, keras.layers.Conv2D)]
    for layer in convolutions:
        kernel, bias = (v.numpy().astype(np.float64) for v in layer.variables)
        size = h.shape[0] // 2
        padded = np.pad(h, [(1, 1), (1, 1), (0, 0)])
        out = np.empty((size, size, kernel.shape[-1]))
        for i in range(size):
            for j in range(size):
                window = padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
                out[i, j] = np.tensordot(window, kernel, 3) + bias
        h = np.where(out > 0, out, 0.2 * out)
    np.testing.assert_allclose(representation(d, x)[0], h.mean((0, 1)), rtol=1e-4, atol=1e-6)


def test_leaky_relu_and_its_gradient():
    x = tf.constant([-3.0, -0.5, 0.5, 4.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = leaky_relu(x)
    gradient = tape.gradient(y, x, tf.constant([1.0, 10.0, 100.0, 1000.0]))
    np.testing.assert_allclose(y, [-0.6, -0.1, 0.5, 4.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, [0.2, 2.0, 100.0, 1000.0], rtol=1e-6)


def test_w_zero_or_y_zero_reduces_eq_2_to_eq_1(d):
    x = np.random.default_rng(2).normal(size=(2, 16, 16, 1)).astype(np.float32)
    y = np.ones((2, 3), np.float32)
    unconditional = Discriminator(width_multiplier=1 / 32)
    unconditional.build((None, None, None, 1))
    unconditional.set_weights([v for v, u in zip(d.get_weights(), d.weights, strict=True)
                               if u.path != d.w.path])  # fmt: skip
    eq_1 = unconditional(x, y)["logit"]
    assert not np.allclose(d(x, y)["logit"], eq_1)
    np.testing.assert_array_equal(d(x, 0 * y)["logit"], eq_1)
    d.w.assign(tf.zeros_like(d.w))
    np.testing.assert_array_equal(d(x, y)["logit"], eq_1)


NETWORKS = {
    "encoder": lambda: (VGG16Encoder(1 / 32), (1, 32, 32, 1)),
    "decoder": lambda: (Decoder(1 / 32), (1, 1, 2, 16)),
    "discriminator": lambda: (Discriminator(0, 1 / 32), (1, 32, 32, 1)),
    "projection": lambda: (ProjectionDiscriminator(3, 1 / 32), (2, 32, 32, 1)),
    "auxiliary": lambda: (AuxiliaryDiscriminator(3, 1 / 32), (2, 32, 32, 1)),
    "spectral": lambda: (
        SpectralNormalization(ProjectionDiscriminator(3, 1 / 32)),
        (2, 32, 32, 1),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_network_is_the_same_network_and_a_clone_is_like_it(name, tmp_path):
    network, shape = NETWORKS[name]()
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    inputs = (x, np.eye(2, 3, dtype=np.float32)) if shape[0] == 2 else (x,)
    before = tf.nest.flatten(network(*inputs))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    clone = keras.models.clone_model(network)
    assert clone.get_config() == network.get_config()
    clone(*inputs)
    clone.set_weights(network.get_weights())
    for other in (loaded, clone):
        for a, b in zip(before, tf.nest.flatten(other(*inputs)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_global_policy_is_taken(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        encoder, d = VGG16Encoder(1 / 32), ProjectionDiscriminator(3, 1 / 32)
        x = tf.zeros((1, 32, 32, 1))
        assert {s.dtype.name for s in encoder(x).values()} == {policy.removeprefix("mixed_")}
        assert {v.dtype.name for v in d(x, tf.zeros((1, 3))).values()} == {"float32"}
        assert Decoder(1 / 32)(encoder(x)["P5"]).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy(before)
