"""Spectral normalisation against numpy.linalg.svd, on the whole of D."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.discriminator import AuxiliaryDiscriminator, ProjectionDiscriminator
from tf_dicom_ce.models.spectral import (
    SpectralNormalization,
    power_iteration,
    spectrally_normalised,
)


def network(kind=ProjectionDiscriminator):
    keras.utils.set_random_seed(1)
    d = SpectralNormalization(kind(3, 1 / 32))
    d.build((None, None, None, 1))
    return d


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 16, 32, 1)).astype(np.float32)
    return x, rng.integers(0, 2, (4, 3)).astype(np.float32)


def matrix(kernel):
    return kernel.numpy().astype(np.float64).reshape(-1, kernel.shape[-1])


def test_one_iteration_by_hand():
    """M = diag(3, 4) and u = (1, 1): MᵀMu = (9, 16), of length √337."""
    kernel = tf.constant([[3.0, 0.0], [0.0, 4.0]])
    u = power_iteration(kernel, tf.constant([1.0, 1.0]))
    np.testing.assert_allclose(u, np.array([9, 16]) / np.sqrt(337), rtol=1e-6)
    # With u = (0, 1) σ is |Mu| = 4.
    normalised = spectrally_normalised(kernel, tf.constant([0.0, 1.0]))
    np.testing.assert_allclose(normalised, [[0.75, 0], [0, 1]], rtol=1e-6)


@pytest.mark.parametrize("kind", [ProjectionDiscriminator, AuxiliaryDiscriminator])
def test_d_is_the_plain_d_with_every_weight_divided_by_its_largest_singular_value(kind, batch):
    d, plain = network(kind), network(kind)
    assert len(d.kernels) == 6  # four convolutions, C_rf, and W or the layer of tags
    for _ in range(300):
        d.iterate()
    for kernel, own in zip(d.kernels, plain.kernels, strict=True):
        own.assign(matrix(kernel).reshape(kernel.shape) / np.linalg.svd(matrix(kernel))[1][0])
    for name, value in plain.discriminator(*batch).items():
        np.testing.assert_allclose(d(*batch)[name], value, rtol=1e-3, atol=1e-6)


def test_a_pass_changes_nothing_and_an_iteration_only_u(batch):
    d = network()
    before = d.get_weights()
    d(*batch)
    for old, new in zip(before, d.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    u = [vector.numpy().astype(np.float64) for vector in d.u]
    kernels = [kernel.numpy() for kernel in d.kernels]
    d.iterate()
    for old, new, kernel, was in zip(u, d.u, d.kernels, kernels, strict=True):
        next_u = matrix(kernel).T @ matrix(kernel) @ old
        np.testing.assert_allclose(new, next_u / np.linalg.norm(next_u), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(kernel, was)


def test_the_gradient_knows_of_sigma(batch):
    """D of W/σ(W) does not change with the length of W, so the gradient is at right angles to W."""
    d = network()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.square(d(*batch)["logit"]))
    gradients = tape.gradient(total, [kernel.value for kernel in d.kernels])
    for kernel, gradient in zip(d.kernels, gradients, strict=True):
        along = np.sum(kernel.numpy() * gradient)
        size = np.linalg.norm(kernel) * np.linalg.norm(gradient)
        assert abs(along) < 1e-4 * size or kernel.shape[-1] == 1, kernel.path
        assert np.linalg.norm(gradient) > 0 or kernel.shape[-1] == 1


def test_u_is_saved_with_the_weights(tmp_path, batch):
    d = network(AuxiliaryDiscriminator)
    d.iterate()
    assert {id(u) for u in d.u} <= {id(v) for v in d.variables}
    assert not {id(u) for u in d.u} & {id(v) for v in d.trainable_variables}
    d.save_weights(tmp_path / "d.weights.h5")
    other = network(AuxiliaryDiscriminator)
    other.load_weights(tmp_path / "d.weights.h5")
    np.testing.assert_array_equal(other(*batch)["logit"], d(*batch)["logit"])
    again = SpectralNormalization.from_config(d.get_config())
    again.build((None, None, None, 1))
    again.set_weights(d.get_weights())
    np.testing.assert_array_equal(again(*batch)["tags"], d(*batch)["tags"])
