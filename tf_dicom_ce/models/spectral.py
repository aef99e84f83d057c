"""Spectral normalisation of D's weights (Miyato et al., 2018).

`keras.layers.SpectralNormalization` does not fit. It overwrites the kernel with the divided kernel,
so the gradient misses σ. It iterates at every call, and D is called twice per step. And it cannot
reach W. Here the weights stay as they are, and D computes with W / σ(W).
"""

import keras
import tensorflow as tf

from tf_dicom_ce.models.discriminator import Discriminator


@keras.saving.register_keras_serializable("tf_dicom_ce")
class SpectralNormalization(keras.Model):
    """A discriminator whose weights, including W, are divided by their largest singular values.

    Biases stay as they are. Inputs and outputs are those of the discriminator.
    """

    def __init__(self, discriminator: Discriminator):
        super().__init__(name="spectral", dtype="float32")
        self.discriminator = discriminator
        self.labels, self.measures = discriminator.labels, discriminator.measures
        self.tag_losses = discriminator.tag_losses
        self._initializer = keras.initializers.RandomNormal()

    def build(self, x_shape, y_shape=None):
        if not self.discriminator.built:
            self.discriminator.build(x_shape, y_shape)
        self.u = [
            self.add_weight(
                shape=(kernel.shape[-1],),
                initializer=self._initializer,
                trainable=False,
                aggregation="only_first_replica",  # every replica has the same weights
                name=f"u{k}",
            )
            for k, kernel in enumerate(self.kernels)
        ]

    @property
    def kernels(self) -> list[keras.Variable]:
        """All weights but the biases."""
        return [v for v in self.discriminator.trainable_variables if v.name != "bias"]

    def iterate(self) -> None:
        """One power iteration on every weight, once per step."""
        for kernel, u in zip(self.kernels, self.u, strict=True):
            u.assign(power_iteration(kernel.value, u.value))

    def call(self, x, y=None):
        normalised = [
            (kernel, spectrally_normalised(kernel.value, u.value))
            for kernel, u in zip(self.kernels, self.u, strict=True)
        ]
        with keras.StatelessScope(normalised):  # kernels have their normalised values in here
            return self.discriminator(x, y)

    def get_config(self):
        return {"discriminator": keras.saving.serialize_keras_object(self.discriminator)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(keras.saving.deserialize_keras_object(config["discriminator"]))


def power_iteration(kernel: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """The next estimate of the first right singular vector: u ← MᵀMu / ‖MᵀMu‖, float32 [C].

    M [·, C] is the weight `kernel`, float32 [..., C], as a matrix.
    """
    matrix = _matrix(kernel)
    v = tf.math.l2_normalize(tf.linalg.matvec(matrix, u))
    return tf.math.l2_normalize(tf.linalg.matvec(matrix, v, transpose_a=True))


def spectrally_normalised(kernel: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """W / σ(W) with σ(W) = vᵀMu and v = Mu / ‖Mu‖; u and v are constants to the gradient.

    u, float32 [C], estimates the first right singular vector. The better the estimate, the closer
    to 1 is the largest singular value of the result.
    """
    mu = tf.linalg.matvec(_matrix(kernel), u)
    v = tf.stop_gradient(tf.math.l2_normalize(mu))
    return kernel / tf.tensordot(v, mu, 1)


def _matrix(kernel):
    return tf.reshape(kernel, (-1, kernel.shape[-1]))
