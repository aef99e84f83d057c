"""Masks at the size of their image: by hand, by NumPy in float64, and by TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.masks import likeliest_classes

SHAPES = [(16, 24), (5, 7), (31, 29), (3, 40), (1, 1), (8, 12), (213, 301)]


def of(foreground):
    """Probabilities of background and one class, float32 [h, w, 2]."""
    foreground = np.asarray(foreground, np.float32)
    return np.stack([1 - foreground, foreground], axis=-1)


def weights(old, new):
    """w float64 [new, old]: a triangle at each new centre, in pixels of the old."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distances = np.abs(centres[:, None] - (np.arange(old) + 0.5)) / max(scale, 1)
    triangle = np.maximum(0, 1 - distances)
    return triangle / triangle.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("foreground", "expected"),
    [
        # The new centres lie 0, 1/4, 3/4 and 1 of the way: p = a_i a_j with a = 1, 3/4, 1/4, 0.
        ([[1.0, 0.0], [0.0, 0.0]], ["1100", "1100", "0000", "0000"]),  # 0.5625 at the inner corner
        ([[0.8, 0.0], [0.0, 0.0]], ["1100", "1000", "0000", "0000"]),  # 0.45; nearest: four ones
        ([[0.9, 0.4], [0.9, 0.4]], ["1110"] * 4),  # 0.9, 0.775, 0.525, 0.4; nearest: two columns
    ],
)
def test_two_by_two_to_four_by_four_by_hand(foreground, expected):
    found = likeliest_classes(of(foreground), (4, 4))
    np.testing.assert_array_equal(found, [[int(one) for one in row] for row in expected])


def test_two_pixels_become_their_mean():
    assert likeliest_classes(of([[0.9, 0.2]]), (1, 1)) == 1  # 0.55
    assert likeliest_classes(of([[0.9, 0.0]]), (1, 1)) == 0  # 0.45


def test_a_third_class_can_win_between_two():
    """From (0.6, 0, 0.4) to (0, 0.6, 0.4) in eighths: 0.6, 0.6, 0.525, 0.375 of the first …"""
    p = np.float32([[[0.6, 0.0, 0.4], [0.0, 0.6, 0.4]]])
    np.testing.assert_array_equal(likeliest_classes(p, (1, 8)), [[0, 0, 0, 2, 2, 1, 1, 1]])


def test_at_its_own_size_nothing_is_mixed():
    p = np.random.default_rng(0).dirichlet(np.ones(4), (8, 12)).astype(np.float32)
    np.testing.assert_array_equal(likeliest_classes(p, (8, 12)), p.argmax(axis=-1))
    assert likeliest_classes(np.full((3, 3, 4), 0.25, np.float32), (9, 9)).max() == 0  # all alike


@pytest.mark.parametrize("shape", SHAPES)
def test_as_numpy_and_tensorflow_interpolate(shape):
    p = np.random.default_rng(1).dirichlet(np.ones(3), (8, 12)).astype(np.float32)
    rows, columns = (weights(old, new) for old, new in zip((8, 12), shape, strict=True))
    by_numpy = np.einsum("ik,jl,klc->ijc", rows, columns, p.astype(float))
    by_tensorflow = tf.image.resize(p, shape, method="bilinear", antialias=True).numpy()
    np.testing.assert_allclose(by_tensorflow, by_numpy, atol=2e-6)
    found = likeliest_classes(p, shape)
    assert found.dtype == np.uint8
    first, second = np.sort(by_numpy, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
    sure = first - second > 1e-6
    assert sure.mean() > 0.99
    for other in (by_numpy, by_tensorflow):
        np.testing.assert_array_equal(found[sure], other.argmax(axis=-1)[sure])
