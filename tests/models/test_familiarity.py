"""How near an image is to those in training, against scikit-learn's covariance."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA

from tf_dicom_ce.models.familiarity import Familiarity, familiarity_of, features


@pytest.fixture
def seen():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 20))
    return (rng.normal(size=(400, 3)) @ mix + 0.1 * rng.normal(size=(400, 20)) + 5).astype("f4")


def test_it_is_the_distance_of_a_probabilistic_pca(seen):
    train, held_out = seen[:200], seen[200:300]
    scale = train.std(0)
    z = (train - train.mean(0)) / scale
    pca = PCA(8, svd_solver="full").fit(z)
    inverse = np.linalg.inv(pca.get_covariance())

    def distance(f):
        z = (f - train.mean(0)) / scale
        return np.einsum("ni,ij,nj->n", z, inverse, z)

    limit = np.quantile(distance(held_out), 0.95, method="higher")
    found = Familiarity(train, held_out).of(tf.constant(seen)).numpy()
    np.testing.assert_allclose(found, limit / (limit + distance(seen)), rtol=1e-3)
    assert (found[200:300] >= 0.5 - 1e-6).mean() >= 0.95
    assert (found[300:] >= 0.5).mean() > 0.85


def test_other_images_are_strange(seen):
    familiarity = Familiarity(seen[:200], seen[200:300])
    rng = np.random.default_rng(1)
    other = seen[300:] + rng.normal(size=(100, 20)).astype("f4")  # off the plane that they lie on
    assert familiarity.of(tf.constant(other)).numpy().max() < 0.2
    # What never varied and does now is no division by zero.
    constant = np.concatenate([seen, np.zeros((400, 1), "f4")], axis=1)
    familiarity = Familiarity(constant[:200], constant[200:300])
    assert (
        familiarity.of(tf.constant(constant[300:] + np.eye(21, dtype="f4")[20] * 9)).numpy().max()
        < 0.1
    )


def test_few_images_do_not_tell(seen):
    assert familiarity_of(seen[:9], seen) is None
    assert familiarity_of(seen, seen[:9]) is None
    few = familiarity_of(seen[:10], seen[10:20])
    assert np.isfinite(few.of(tf.constant(seen))).all()
    assert few.description() == {"threshold": 0.5, "held_out_images": 10, "within": 0.95}


def test_features_are_averages():
    scales = {f"P{k}": tf.fill((2, 3, 4, k), float(k)) for k in range(1, 6)}
    found = features(scales)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found[1], np.repeat(np.arange(1.0, 6), range(1, 6)))
