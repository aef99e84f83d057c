"""The projection discriminator D (section 3.1.1, Miyato & Koyama, 2018) and its variants."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.conv_bn_relu import build_in_turn
from tf_dicom_ce.models.encoder import channels
from tf_dicom_ce.models.losses import tag_loss

FEATURE_CHANNELS = (64, 128, 256, 512)


@keras.saving.register_keras_serializable("tf_dicom_ce")
@tf.custom_gradient
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0.2 x); TensorFlow 2.21's graph optimizer does not fuse its own LeakyRelu op.

    The gradient is one op on y, which has the sign of x. The optimizer can therefore fuse
    convolution, bias and leaky ReLU. The gradient of `tf.maximum` would be four ops on x.
    """
    y = tf.maximum(x, 0.2 * x)

    def gradient(dy):
        return tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=0.2)

    return y, gradient


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Discriminator(keras.Model):
    """D(x) = C_rf(D̃(x)), the unconditional discriminator of Eq. 1, as a logit.

    D̃ is four [4×4 convolution of stride 2, leaky ReLU] and a global average. The paper leaves D̃
    open; this is the discriminator of Pathak et al. without BatchNorm, so that D judges every
    example by itself. C_rf is a dense layer.

    Args:
        labels: Length L of y.
        width_multiplier: Multiplies every channel count.
        dtype: Keras' dtype policy of the convolutions, as in `VGG16Encoder`; everything after the
            average is float32 under every policy.

    Call:
        x: float [N, h, w, 1], patches (or whole images), z-scored.
        y: float [N, L], multi-hot, or None.

    Returns:
        dict of logits, float32 [N] each: `c_rf`, `p` and their sum `logit`. In this class p is 0.
    """

    #: Names of the measures of how D uses the tags.
    measures: tuple[str, ...] = ("p",)

    def __init__(
        self,
        labels: int = 0,
        width_multiplier: float = 1.0,
        name: str = "discriminator",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.labels, self.width_multiplier = labels, width_multiplier
        self.features = channels(FEATURE_CHANNELS[-1], width_multiplier)
        of_conv = {"kernel_size": 4, "strides": 2, "padding": "same", "dtype": self.dtype_policy}
        d_tilde = []
        for k, count in enumerate(FEATURE_CHANNELS, start=1):
            d_tilde += [
                layers.Conv2D(channels(count, width_multiplier), name=f"conv{k}", **of_conv),
                layers.Activation(leaky_relu, name=f"leaky_relu{k}", dtype=self.dtype_policy),
            ]
        average = layers.GlobalAveragePooling2D(name="average", dtype="float32")
        self.d_tilde = [*d_tilde, average]
        self.c_rf = layers.Dense(1, name="c_rf", dtype="float32")

    def build(self, x_shape, y_shape=None):
        build_in_turn((*self.d_tilde, self.c_rf), x_shape)

    def call(self, x, y=None):
        for layer in self.d_tilde:
            x = layer(x)
        return self.judge(x, y)

    def judge(self, d_tilde: tf.Tensor, y: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Computes the logits from D̃(x), float32 [N, features]."""
        c_rf = tf.squeeze(self.c_rf(d_tilde), axis=-1)
        return {"c_rf": c_rf, "p": tf.zeros_like(c_rf), "logit": c_rf}

    def iterate(self) -> None:
        """Is called before every step; see `SpectralNormalization`."""

    def tag_losses(self, real: dict, fake: dict, y, known) -> dict[str, tf.Tensor]:
        """Losses on the tags, float32 [N] each, from D's answers to true and predicted patches."""
        return {}

    def get_config(self):
        of_model = super().get_config()
        config = {"labels": self.labels, "width_multiplier": self.width_multiplier}
        return config | {"name": self.name, "dtype": of_model["dtype"]}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ProjectionDiscriminator(Discriminator):
    """D(x, y) = C_rf(D̃(x)) + P(D̃(x), y) with P(D̃(x), y) = D̃(x)ᵀ W y.

    Where y is all zeros, P is 0 and D(x, y) is the D(x) of Eq. 1. The arguments are those of
    `Discriminator`.
    """

    def __init__(self, labels: int, width_multiplier: float = 1.0, **kwargs):
        super().__init__(labels, width_multiplier, **kwargs)
        self._initializer = keras.initializers.GlorotUniform()

    def build(self, x_shape, y_shape=None):
        super().build(x_shape)
        self.w = self.add_weight(
            (self.features, self.labels), self._initializer, autocast=False, name="w"
        )

    def judge(self, d_tilde, y):
        logits = super().judge(d_tilde, y)
        p = tf.reduce_sum((d_tilde @ self.w.value) * tf.cast(y, tf.float32), axis=-1)
        return logits | {"p": p, "logit": logits["c_rf"] + p}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class AuxiliaryDiscriminator(Discriminator):
    """AC-GAN's D (Odena et al., 2017): it does not see y, and a dense layer on D̃(x) predicts it.

    The dict has another entry `tags`, float32 [N, L], the logits of y. The arguments are those of
    `Discriminator`.
    """

    measures = ("tags_real", "tags_fake")

    def __init__(self, labels: int, width_multiplier: float = 1.0, **kwargs):
        super().__init__(labels, width_multiplier, **kwargs)
        self.tags = layers.Dense(labels, name="tags", dtype="float32")

    def build(self, x_shape, y_shape=None):
        super().build(x_shape)
        self.tags.build((None, self.features))

    def judge(self, d_tilde, y):
        return super().judge(d_tilde, y) | {"tags": self.tags(d_tilde)}

    def tag_losses(self, real, fake, y, known):
        """The losses `tags_real` and `tags_fake`, see `tag_loss`."""
        return {
            "tags_real": tag_loss(y, known, real["tags"]),
            "tags_fake": tag_loss(y, known, fake["tags"]),
        }
