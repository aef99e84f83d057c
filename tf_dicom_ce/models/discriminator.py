"""The projection discriminator D (section 3.1.1, Miyato & Koyama, 2018)."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.encoder import channels

FEATURE_CHANNELS = (64, 128, 256, 512)


@keras.saving.register_keras_serializable("tf_dicom_ce")
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0.2 x); TensorFlow 2.21's graph optimizer gives up on its own LeakyRelu op."""
    return tf.maximum(x, 0.2 * x)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ProjectionDiscriminator(keras.Model):
    """D(x, y) = C_rf(D̃(x)) + P(D̃(x), y) with P(D̃(x), y) = D̃(x)ᵀ W y, as a logit.

    D̃ is four [4×4 convolution of stride 2, leaky ReLU] and a global average: the paper leaves it
    open, and this is the discriminator of Pathak et al. without BatchNorm. So every example is
    judged for itself and one pass over real and predicted patches together gives what two would.
    C_rf is a dense layer. Where y is all zeros, P is 0 and D(x, y) is the D(x) of Eq. 1.

    Args:
        labels: Length L of y; 0 gives the unconditional D of Eq. 1, without W.
        width: Multiplies every channel count.

    Call:
        x: float [N, h, w, 1], patches (or composites), z-scored.
        y: float [N, L], multi-hot.

    Returns:
        dict of logits, float [N] each: `c_rf`, `p` and their sum `logit`.
    """

    def __init__(self, labels: int, width: float = 1.0, name: str = "discriminator", **kwargs):
        super().__init__(name=name, **kwargs)
        self.labels = labels
        self.width = width
        self.representation = keras.Sequential(
            [
                layer
                for k, count in enumerate(FEATURE_CHANNELS, start=1)
                for layer in (
                    layers.Conv2D(
                        channels(count, width), 4, strides=2, padding="same", name=f"conv{k}"
                    ),
                    layers.Activation(leaky_relu, name=f"leaky_relu{k}"),
                )
            ]
            + [layers.GlobalAveragePooling2D(name="average")],
            name="d_tilde",
        )
        self.c_rf = layers.Dense(1, name="c_rf")

    def build(self, input_shape):
        """Creates all variables, W among them."""
        features = channels(FEATURE_CHANNELS[-1], self.width)
        self.representation.build((None, None, None, input_shape[-1]))
        self.c_rf.build((None, features))
        if self.labels:
            self.w = self.add_weight(
                shape=(features, self.labels), initializer="glorot_uniform", name="w"
            )

    def call(self, x, y):
        d_tilde = self.representation(x)
        c_rf = tf.squeeze(self.c_rf(d_tilde), axis=-1)
        p = tf.einsum("nf,fl,nl->n", d_tilde, self.w, y) if self.labels else tf.zeros_like(c_rf)
        return {"c_rf": c_rf, "p": p, "logit": c_rf + p}

    def get_config(self):
        return {"labels": self.labels, "width": self.width, "name": self.name}
