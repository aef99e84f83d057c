"""Linear heads: the regression by scikit-learn's own steps, the reading by NumPy."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.models.linear import LinearClassifier, LinearSegmenter, regression

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 32, 64, 1)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 4])
def test_regression(classes):
    features = RNG.normal(3.0, (1, 5, 0.1), (200, 3))
    score = features @ (1, 0.2, 3)
    labels = np.digitize(score, np.quantile(score, (0.5, 0.7, 0.9)[: classes - 1]))
    weights, bias = regression(features, labels, classes)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced"))
    theirs.fit(features, labels)  # 1 / (0.1 · 200)
    logits = features @ weights + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, theirs.predict_proba(features), atol=1e-4)


def test_a_class_that_did_not_occur_is_never_answered():
    features, labels = RNG.normal(size=(50, 3)), np.repeat([0, 2], 25)
    for found in (labels, np.full(50, 2)):
        weights, bias = regression(features, found, 4)
        answers = (100 * RNG.normal(size=(500, 3)) @ weights + bias).argmax(axis=1)
        assert set(answers) <= set(found)


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return VGG16Encoder(1 / 32)


def enlarged(image, size):
    """Bilinearly, between the centres of pixels, by NumPy: [h, w, C] to `size`."""
    for axis, length in enumerate(size):
        old = image.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        low = at.astype(int)
        part = np.expand_dims(at - low, tuple({0, 1, 2} - {axis}))
        high = np.minimum(low + 1, old - 1)
        image = image.take(low, axis) * (1 - part) + image.take(high, axis) * part
    return image


def test_segmenter_reads_scales_linearly(encoder):
    head = LinearSegmenter(encoder, 3)
    head.build((None, 32, 64, 1))
    scales = {k: v.numpy() for k, v in encoder(IMAGES).items()}
    features = head.features(scales)
    of_image = [enlarged(scales[f"P{k}"][1], (8, 16)) for k in (2, 3, 4, 5)]
    np.testing.assert_allclose(features[1], np.concatenate(of_image, axis=-1), atol=1e-5)
    labels = RNG.integers(0, 3, features.shape[:-1])
    flat = features.reshape(-1, features.shape[-1])
    head.solve(flat, labels.reshape(-1))
    weights, bias = regression(flat, labels.reshape(-1), 3)
    expected = enlarged(features[1] @ weights + bias, (32, 64))
    np.testing.assert_allclose(head(IMAGES)[1], expected, rtol=1e-4, atol=1e-4)
    assert not head.encoder.trainable_variables


def test_classifier_reads_averages(encoder):
    head = LinearClassifier(encoder, 3)
    head.build((None, 32, 64, 1))
    scales = {k: v.numpy() for k, v in encoder(IMAGES).items()}
    features = np.concatenate([scales[f"P{k}"].mean((1, 2)) for k in (2, 3, 4, 5)], axis=-1)
    np.testing.assert_allclose(head.features(scales), features)
    head.solve(features, np.arange(3))
    weights, bias = regression(features, np.arange(3), 3)
    np.testing.assert_allclose(head(IMAGES), features @ weights + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [LinearSegmenter, LinearClassifier])
def test_saved_and_loaded(encoder, kind, tmp_path):
    head = kind(encoder, 3)
    head.build((None, 32, 64, 1))
    head.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(loaded(IMAGES), head(IMAGES))
    assert not loaded.trainable_variables or not loaded.encoder.trainable_variables
