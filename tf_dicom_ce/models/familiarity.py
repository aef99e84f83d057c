"""How near an image is to those that a head was trained on, by what the encoder makes of it."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_dicom_ce.models.encoder import SCALES

#: What `Familiarity` gives at the limit.
THRESHOLD = 0.5
#: The share of held-out images that are within the limit.
WITHIN = 0.95
_AXES = 8
_LEAST = 10  # images, of either kind


class Familiarity:
    """A number from 0 to 1 for every image: ½ and more within the limit.

        z = (f − μ) / s,  y = Vᵀ z,  d² = Σ y_k² / λ_k + (|z|² − |y|²) / σ²,  limit / (limit + d²)

    f are the averages of the five scales; d is their Mahalanobis distance by a probabilistic PCA
    (Tipping and Bishop, 1999) of the training images' with eight axes V. All together is some
    15,000 numbers of VGG16.

    Args:
        train: Features f of training images, float [n, Σ C_k], ten or more.
        held_out: Of images that were not trained on, ten or more; of these, 95 % are within the
            limit.
    """

    def __init__(self, train: np.ndarray, held_out: np.ndarray):
        train = np.asarray(train, np.float64)
        spread = train.std(axis=0)
        self._mean, self._scale = train.mean(axis=0), np.maximum(spread, 0.1 * spread.mean() + 1e-9)
        z = (train - self._mean) / self._scale
        _, values, axes = np.linalg.svd(z, full_matrices=False)
        variances = values**2 / (len(z) - 1)
        self._axes, self._variances = axes[:_AXES].T, variances[:_AXES] + 1e-9
        left = max(z.shape[1] - len(self._variances), 1)
        self._rest = variances[_AXES:].sum() / left + 1e-9
        self._limit = 1.0
        distances = 1 / self.of(tf.constant(held_out, tf.float32)).numpy() - 1
        self._limit = float(np.quantile(distances, WITHIN, method="higher"))
        self.held_out = len(held_out)

    def __call__(self, scales: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Of images, by their scales `P1`…`P5`; float32 [N]."""
        return self.of(features(scales))

    def of(self, found: tf.Tensor) -> tf.Tensor:
        """Of images by their features, float32 [N, Σ C_k]."""
        z = (found - tf.constant(self._mean, tf.float32)) / tf.constant(self._scale, tf.float32)
        y2 = (z @ tf.constant(self._axes, tf.float32)) ** 2
        rest = tf.maximum(tf.reduce_sum(z**2, axis=1) - tf.reduce_sum(y2, axis=1), 0.0)
        distance = tf.reduce_sum(y2 / tf.constant(self._variances, tf.float32), axis=1)
        return self._limit / (self._limit + distance + rest / self._rest)

    def description(self) -> dict:
        """What an export says of it."""
        return {"threshold": THRESHOLD, "held_out_images": self.held_out, "within": WITHIN}


def features(scales: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The averages of the five scales, float32 [N, Σ C_k]."""
    means = [tf.reduce_mean(tf.cast(scales[k], tf.float32), axis=[1, 2]) for k in SCALES]
    return tf.concat(means, axis=-1)


def familiarity_of(train: np.ndarray, held_out: np.ndarray) -> Familiarity | None:
    """`Familiarity`, or None where there are too few images to tell."""
    enough = min(len(train), len(held_out)) >= _LEAST
    return Familiarity(train, held_out) if enough else None
