"""Linear heads on a frozen encoder: a logistic regression on its scales, solved at once.

    z = Σ_k W_k P_k + b,   k = 2…5

With few labels it tells encoders apart with less noise than a deep head.
"""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tf_dicom_ce.models.heads import Head, nominal_outputs, segmentation_outputs

#: The scales that are read, of stride 4 to 32.
READ = ("P2", "P3", "P4", "P5")
#: λ of the penalty λ/2 |W|² on the weights of standardised features, beside the mean loss.
PENALTY = 0.1
#: The logit of a class that no example had, below that of any other.
_NEVER = -1e4


class LinearHead(Head):
    """A dense layer on each scale of `READ`; the first has b. The encoder stays as it is."""

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
        """Takes the weights of `regression` on float [n, Σ C_k] and classes, integer [n]."""
        weights, bias = regression(features, labels, self.classes)
        ends = np.cumsum([layer.kernel.shape[0] for layer in self.readouts])[:-1]
        for layer, part in zip(self.readouts, np.split(weights, ends), strict=True):
            layer.set_weights([part, bias] if layer.use_bias else [part])


@keras.saving.register_keras_serializable("tf_dicom_ce")
class LinearSegmenter(LinearHead):
    """The class of every pixel, from the scales over it; see `Head` and `LinearHead`.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        Logits, float32 [N, H, W, classes]: the sum over the scales, each enlarged to stride 4,
        enlarged again; bilinearly.
    """

    task = "segmentation"
    answer = staticmethod(segmentation_outputs)

    def __init__(self, encoder, classes, *args, name="linear_segmenter", **kwargs):
        super().__init__(encoder, classes, *args, name=name, **kwargs)

    def read(self, scales: Mapping, image_size: tuple[int, int]):
        """Logits from the scales of images of that size."""
        size = scales[READ[0]].shape[1:3]
        parts = zip(self.readouts, READ, strict=True)
        logits = sum(tf.image.resize(readout(scales[k]), size) for readout, k in parts)
        return tf.image.resize(logits, image_size)

    @staticmethod
    def features(scales: Mapping[str, np.ndarray]) -> np.ndarray:
        """What `solve` takes of each pixel: all scales at stride 4, float32 [N, H/4, W/4, Σ C_k].

        A linear map of these is what `read` gives, for enlarging is linear.
        """
        size = scales[READ[0]].shape[1:3]
        return np.concatenate([tf.image.resize(scales[k], size) for k in READ], axis=-1)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class LinearClassifier(LinearHead):
    """The class of an image, from the averages of the scales; see `Head` and `LinearHead`.

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
        """Logits from the scales."""
        parts = zip(self.readouts, READ, strict=True)
        return sum(readout(tf.reduce_mean(scales[k], axis=[1, 2])) for readout, k in parts)

    @staticmethod
    def features(scales: Mapping[str, np.ndarray]) -> np.ndarray:
        """What `solve` takes of each image: the averages of its scales, float32 [N, Σ C_k]."""
        return np.concatenate([scales[k].mean(axis=(1, 2)) for k in READ], axis=-1)


def regression(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression with an L2 penalty on standardised features.

    Every class counts alike, however many examples it has.

    Args:
        features: float [n, F].
        labels: Classes, integer [n]; one that does not occur is never answered.
        classes: How many there are.

    Returns:
        W, float32 [F, classes], and b, float32 [classes], of the features as they are.
    """
    mean, sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    weights = np.zeros((features.shape[1], classes))
    bias = np.full(classes, float(_NEVER))
    seen = np.unique(labels)
    bias[seen] = 0.0
    if len(seen) > 1:
        model = LogisticRegression(
            C=1 / (PENALTY * len(labels)), class_weight="balanced", max_iter=300
        )
        with threadpool_limits(1):  # more threads of BLAS wait for each other
            found = model.fit((features - mean) / sd, labels)
        coefficients, intercepts = found.coef_, found.intercept_
        if len(seen) == 2:  # of the second class alone: the first one's logit is 0
            coefficients = np.concatenate([0 * coefficients, coefficients])
            intercepts = np.concatenate([0 * intercepts, intercepts])
        weights[:, seen] = coefficients.T / sd[:, np.newaxis]
        bias[seen] = intercepts - mean @ weights[:, seen]
    return weights.astype(np.float32), bias.astype(np.float32)
