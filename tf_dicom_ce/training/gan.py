"""The pretraining step: context encoder F against projection discriminator D."""

import keras
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.data.preprocessing import centre_patch, mask_centre, paste_patch
from tf_dicom_ce.losses import (
    adversarial_loss,
    discriminator_loss,
    joint_loss,
    reconstruction_loss,
)
from tf_dicom_ce.models.context_encoder import ContextEncoder
from tf_dicom_ce.models.discriminator import ProjectionDiscriminator

#: What a step measures; the names in `fit`'s logs.
METRICS = (
    "joint",
    "rec",
    "rec_of_mean",
    "adv",
    "disc",
    "d_real",
    "d_fake",
    "c_rf",
    "p",
    "g_norm",
    "d_norm",
)


class ContextEncoderGAN(keras.Model):
    """F minimises λ_rec L_rec + λ_adv L_adv (Eq. 3) while D maximises Eq. 2 (or Eq. 1).

    One forward pass of F serves both updates, so BatchNorm's statistics move once a step; both
    gradients are taken at the same weights.

    Logged per step: the losses `joint`, `rec`, `adv` and `disc`; `rec_of_mean`, the L_rec of
    painting each image's mean, which `rec` has to beat; the means of σ(D) on true and
    predicted patches, `d_real` and `d_fake`; the mean sizes |C_rf| and |P| over both, `c_rf` and
    `p`; and, in training, the gradients' global norms, `g_norm` and `d_norm`.

    Args:
        config: Settings; width, λ, the form of L_adv and what D sees are used here.
        labels: Length L of y; 0 for the unconditional context encoder.
    """

    def __init__(self, config: PretrainConfig, labels: int):
        super().__init__(name="context_encoder_gan")
        self.config = config
        self.context_encoder = ContextEncoder(config.width)
        self.discriminator = ProjectionDiscriminator(labels, config.width)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in METRICS}
        self.build((None, *config.image_size, 1))

    def build(self, input_shape):
        """Creates all variables of F and D."""
        self.context_encoder.build(input_shape)
        self.discriminator.build((None, None, None, input_shape[-1]))

    def compile(self, **kwargs):
        """Two Adam optimizers with the config's learning rates, built (section 4.3)."""
        super().compile(optimizer=None, jit_compile=False, **kwargs)
        self.g_optimizer = keras.optimizers.Adam(self.config.g_learning_rate, 0.9, 0.999)
        self.d_optimizer = keras.optimizers.Adam(self.config.d_learning_rate, 0.9, 0.999)
        self.g_optimizer.build(self.context_encoder.trainable_variables)
        self.d_optimizer.build(self.discriminator.trainable_variables)

    @property
    def metrics(self):
        """The trackers of `METRICS`, reset by Keras at the start of every epoch."""
        return list(self.trackers.values())

    def call(self, x, training=False):
        """Images with the prediction in place of the centre, float [N, H, W, 1]."""
        return paste_patch(x, self.context_encoder(mask_centre(x), training=training))

    def train_step(self, data):
        """One update of F and of D on a batch (x, y)."""
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            values = self._judge(x, y, training=True)
            joint = tf.reduce_mean(values["joint"])
            disc = tf.reduce_mean(values["disc"])
        for name, loss, network, optimizer in (
            ("g_norm", joint, self.context_encoder, self.g_optimizer),
            ("d_norm", disc, self.discriminator, self.d_optimizer),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)
            values[name] = tf.linalg.global_norm(gradients)
        return self._log(values)

    def test_step(self, data):
        """The same measures without an update, BatchNorm at its moving statistics."""
        x, y = data
        return self._log(self._judge(x, y, training=False))

    def _judge(self, x, y, training):
        """Losses and logits of a batch, each float [N]."""
        patch = centre_patch(x)
        patch_hat = self.context_encoder(mask_centre(x), training=training)
        if self.config.discriminator_input == "patch":
            real, fake = patch, patch_hat
        else:
            real, fake = x, paste_patch(x, patch_hat)
        real = self.discriminator(real, y)
        fake = self.discriminator(fake, y)
        rec = reconstruction_loss(patch, patch_hat)
        adv = adversarial_loss(fake["logit"], self.config.adversarial)
        return {
            "joint": joint_loss(rec, adv, self.config.lambda_rec, self.config.lambda_adv),
            "rec": rec,
            "rec_of_mean": reconstruction_loss(patch, tf.zeros_like(patch)),
            "adv": adv,
            "disc": discriminator_loss(real["logit"], fake["logit"]),
            "d_real": tf.sigmoid(real["logit"]),
            "d_fake": tf.sigmoid(fake["logit"]),
            "c_rf": (tf.abs(real["c_rf"]) + tf.abs(fake["c_rf"])) / 2,
            "p": (tf.abs(real["p"]) + tf.abs(fake["p"])) / 2,
        }

    def _log(self, values):
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return {name: self.trackers[name].result() for name in values}
