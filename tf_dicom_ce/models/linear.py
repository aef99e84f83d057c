"""Linear heads on a frozen encoder: a logistic regression on its scales, solved at once.

    z = Σ_k W_k P_k + b,   k = 2…5

With few labels, a linear head compares encoders with less noise than a deep head.
"""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from threadpoolctl import threadpool_limits

from tf_dicom_ce.models.heads import Head, nominal_outputs, segmentation_outputs

#: The scales that the head reads, of stride 4 to 32.
READ = ("P2", "P3", "P4", "P5")
#: λ of the penalty λ/2 |W|² on the weights of standardised features, added to the mean loss.
PENALTY = 0.1
#: The logit of a class without examples, below that of any other class.
_NEVER = -1e4


class LinearHead(Head):
    """A dense layer on each scale of `READ`; the first has the bias b. The encoder is frozen."""

    reads = READ

    def __init__(self, encoder, classes, width_multiplier=1.0, dtype=None, name=None, **kwargs):
        super().__init__(encoder, classes, width_multiplier, dtype, name, **kwargs)
        encoder.trainable = False
        self.readouts = [
            layers.Dense(classes, use_bias=k == READ[0], name=k.lower(), dtype="float32")
            for k in READ
        ]

    def call(self, x, training=False):
        seen = self.see(x)
        return self.read(seen, seen["image"].shape[1:3])

    def solve(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Sets the weights by `regression` on features [n, Σ C_k] and classes, integer [n]."""
        weights, bias = regression(features, labels, self.classes)
        ends = np.cumsum([layer.kernel.shape[0] for layer in self.readouts])[:-1]
        for layer, part in zip(self.readouts, np.split(weights, ends), strict=True):
            layer.set_weights([part, bias] if layer.use_bias else [part])


@keras.saving.register_keras_serializable("tf_dicom_ce")
class LinearSegmenter(LinearHead):
    """Classifies every pixel from the scales at its place; see `Head` and `LinearHead`.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        Logits, float32 [N, H, W, classes]: each scale is enlarged to stride 4, the sum over the
        scales to full size, both bilinearly.
    """

    task = "segmentation"
    answer = staticmethod(segmentation_outputs)

    def __init__(self, encoder, classes, *args, name="linear_segmenter", **kwargs):
        super().__init__(encoder, classes, *args, name=name, **kwargs)

    def read(self, scales: Mapping, image_size: tuple[int, int]):
        """Computes the logits of images of `image_size` from their scales."""
        size = scales[READ[0]].shape[1:3]
        parts = zip(self.readouts, READ, strict=True)
        logits = sum(tf.image.resize(readout(scales[k]), size) for readout, k in parts)
        return tf.image.resize(logits, image_size)

    @staticmethod
    def features(scales: Mapping[str, np.ndarray]) -> np.ndarray:
        """The features of each pixel: all scales at stride 4, float32 [N, H/4, W/4, Σ C_k].

        `read` is a linear map of these features, because enlarging is linear.
        """
        size = scales[READ[0]].shape[1:3]
        return np.concatenate([tf.image.resize(scales[k], size) for k in READ], axis=-1)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class LinearClassifier(LinearHead):
    """Classifies an image from the averages of its scales; see `Head` and `LinearHead`.

    Call:
        x: float [N, H, W, 1], z-scored.

    Returns:
        Logits, float32 [N, classes].
    """

    task = "classification"

    def __init__(self, encoder, classes, *args, name="linear_classifier", **kwargs):
        super().__init__(encoder, classes, *args, name=name, **kwargs)

    def answer(self, logits):
        return nominal_outputs(logits / self.temperature)

    def read(self, scales: Mapping, image_size: tuple[int, int]):
        """Computes the logits from the scales."""
        parts = zip(self.readouts, READ, strict=True)
        return sum(readout(tf.reduce_mean(scales[k], axis=[1, 2])) for readout, k in parts)

    @staticmethod
    def features(scales: Mapping[str, np.ndarray]) -> np.ndarray:
        """The features of each image: the averages of its scales, float32 [N, Σ C_k]."""
        return np.concatenate([scales[k].mean(axis=(1, 2)) for k in READ], axis=-1)


def regression(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression with an L2 penalty on standardised features.

    Every class has the same weight, however many examples it has.

    Args:
        features: float [n, F].
        labels: Classes, integer [n]. A class without examples is never predicted.
        classes: Number of classes.

    Returns:
        W, float32 [F, classes], and b, float32 [classes], for features without standardisation.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second

    mean, sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    weights = np.zeros((features.shape[1], classes))
    bias = np.full(classes, float(_NEVER))
    seen = np.unique(labels)
    bias[seen] = 0.0
    if len(seen) > 1:
        model = LogisticRegression(
            C=1 / (PENALTY * len(labels)), class_weight="balanced", max_iter=300
        )
        with threadpool_limits(1):  # several BLAS threads would wait for each other
            found = model.fit((features - mean) / sd, labels)
        coefficients, intercepts = found.coef_, found.intercept_
        if len(seen) == 2:  # scikit-learn gives the second class only: the first one's logit is 0
            coefficients = np.concatenate([0 * coefficients, coefficients])
            intercepts = np.concatenate([0 * intercepts, intercepts])
        weights[:, seen] = coefficients.T / sd[:, np.newaxis]
        bias[seen] = intercepts - mean @ weights[:, seen]
    return weights.astype(np.float32), bias.astype(np.float32)
