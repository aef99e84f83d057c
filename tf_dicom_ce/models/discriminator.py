"""The projection discriminator D (section 3.1.1, Miyato & Koyama, 2018) and its variants."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.encoder import channels
from tf_dicom_ce.models.spectral import power_iteration, spectrally_normalised

FEATURE_CHANNELS = (64, 128, 256, 512)


@keras.saving.register_keras_serializable("tf_dicom_ce")
@tf.custom_gradient
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0.2 x); TensorFlow 2.21's graph optimizer gives up on its own LeakyRelu op.

    Its gradient is one op, of y, which has the sign of x: so the optimizer fuses convolution,
    bias and leaky ReLU. That of `tf.maximum` would be four, and of x.
    """
    y = tf.maximum(x, 0.2 * x)

    def gradient(dy):
        return tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=0.2)

    return y, gradient


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ProjectionDiscriminator(keras.Model):
    """D(x, y) = C_rf(D̃(x)) + P(D̃(x), y) with P(D̃(x), y) = D̃(x)ᵀ W y, as a logit.

    D̃ is four [4×4 convolution of stride 2, leaky ReLU] and a global average: the paper leaves it
    open, and this is the discriminator of Pathak et al. without BatchNorm. So every example is
    judged for itself and one pass over real and predicted patches together gives what two would.
    C_rf is a dense layer. Where y is all zeros, P is 0 and D(x, y) is the D(x) of Eq. 1.

    `auxiliary` conditioning is that of AC-GAN (Odena et al., 2017): D does not see y, and a dense
    layer on D̃(x) predicts it.

    Args:
        labels: Length L of y; 0 gives the unconditional D of Eq. 1, without W.
        width: Multiplies every channel count.
        conditioning: `projection` or `auxiliary`.
        spectral_norm: Divide every weight, W too, by its largest singular value (Miyato et al.,
            2018); `iterate` is to be called once a step. Biases stay as they are.
        policy: Keras' dtype policy of the convolutions, as in `VGG16Encoder`; everything after
            the average is float32 under every one.

    Call:
        x: float [N, h, w, 1], patches (or composites), z-scored.
        y: float [N, L], multi-hot.

    Returns:
        dict of logits, float32 [N] each: `c_rf`, `p` and their sum `logit`; under `auxiliary` p is
        0, and `tags`, float32 [N, L], are the logits of y.
    """

    def __init__(
        self,
        labels: int,
        width: float = 1.0,
        conditioning: str = "projection",
        spectral_norm: bool = False,
        policy: str = "float32",
        name: str = "discriminator",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.labels = labels
        self.width = width
        self.conditioning = conditioning
        self.spectral_norm = spectral_norm
        self.policy = policy
        self.representation = keras.Sequential(
            [
                layer
                for k, count in enumerate(FEATURE_CHANNELS, start=1)
                for layer in (
                    layers.Conv2D(
                        channels(count, width),
                        4,
                        strides=2,
                        padding="same",
                        name=f"conv{k}",
                        dtype=policy,
                    ),
                    layers.Activation(leaky_relu, name=f"leaky_relu{k}", dtype=policy),
                )
            ]
            + [layers.GlobalAveragePooling2D(name="average", dtype="float32")],
            name="d_tilde",
        )
        self.c_rf = layers.Dense(1, name="c_rf")
        self.projects = bool(labels) and conditioning == "projection"
        self.predicts = bool(labels) and conditioning == "auxiliary"
        if self.predicts:
            self.tags = layers.Dense(labels, name="tags")

    def build(self, input_shape):
        """Creates all variables, W and the singular vectors u among them."""
        features = channels(FEATURE_CHANNELS[-1], self.width)
        self.representation.build((None, None, None, input_shape[-1]))
        self.c_rf.build((None, features))
        if self.predicts:
            self.tags.build((None, features))
        if self.projects:
            self.w = self.add_weight(
                shape=(features, self.labels), initializer="glorot_uniform", name="w"
            )
        if self.spectral_norm:
            self.u = [
                self.add_weight(
                    shape=(kernel.shape[-1],),
                    initializer="random_normal",
                    trainable=False,
                    aggregation="only_first_replica",  # every replica has the same weights
                    name=f"u{k}",
                )
                for k, kernel in enumerate(self.kernels)
            ]

    @property
    def kernels(self) -> list[keras.Variable]:
        """All weights but the biases: what spectral normalisation divides."""
        return [v for v in self.trainable_variables if v.name != "bias"]

    def iterate(self):
        """One power iteration on every weight; nothing without spectral normalisation."""
        if self.spectral_norm:
            for kernel, u in zip(self.kernels, self.u, strict=True):
                u.assign(power_iteration(kernel.value, u.value))

    def call(self, x, y):
        if not self.spectral_norm:
            return self._judge(x, y)
        normalised = [
            (kernel, spectrally_normalised(kernel.value, u.value))
            for kernel, u in zip(self.kernels, self.u, strict=True)
        ]
        with keras.StatelessScope(normalised):  # here a kernel's value is the normalised one
            return self._judge(x, y)

    def _judge(self, x, y):
        d_tilde = self.representation(x)
        c_rf = tf.squeeze(self.c_rf(d_tilde), axis=-1)
        p = tf.zeros_like(c_rf)
        if self.projects:
            p = tf.reduce_sum((d_tilde @ self.w.value) * y, axis=-1)
        logits = {"c_rf": c_rf, "p": p, "logit": c_rf + p}
        return logits | ({"tags": self.tags(d_tilde)} if self.predicts else {})

    def get_config(self):
        return {
            "labels": self.labels,
            "width": self.width,
            "conditioning": self.conditioning,
            "spectral_norm": self.spectral_norm,
            "policy": self.policy,
            "name": self.name,
        }
