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
    tag_loss,
)
from tf_dicom_ce.models.context_encoder import ContextEncoder
from tf_dicom_ce.models.discriminator import ProjectionDiscriminator

#: Setting `precision` -> Keras' dtype policy of the layers.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

#: Weight of the loss on tags beside L_adv under `auxiliary`: that of AC-GAN's L_C beside L_S.
TAG_WEIGHT = 1.0


def measured(config: PretrainConfig) -> tuple[str, ...]:
    """What a step measures under these settings; the names in the logs."""
    conditioning = ("p",) if config.conditioning == "projection" else ("tags_real", "tags_fake")
    return (
        *("joint", "rec", "rec_of_mean", "adv", "disc", "d_real", "d_fake", "c_rf"),
        *conditioning,
        *("g_norm", "d_norm"),
        *(("g_skipped", "d_skipped") if config.precision == "float16" else ()),
    )


class ContextEncoderGAN(keras.Model):
    """F minimises λ_rec L_rec + λ_adv L_adv (Eq. 3) while D maximises Eq. 2 (or Eq. 1).

    One forward pass of F serves both updates, so BatchNorm's statistics move once a step; both
    gradients are taken at the same weights.

    Under `auxiliary` conditioning (Odena et al., 2017) D does not see y: `tag_loss` is added, with
    weight `TAG_WEIGHT`, to D's loss on true and on predicted patches, and to L_adv on predicted.

    Logged per step: the losses `joint`, `rec`, `adv` and `disc`; `rec_of_mean`, the L_rec of
    painting each image's mean, which `rec` has to beat; the means of σ(D) on true and
    predicted patches, `d_real` and `d_fake`; the mean sizes |C_rf| and |P| over both, `c_rf` and
    `p`, or, under `auxiliary`, the losses on tags `tags_real` and `tags_fake` in place of `p`;
    and, in training, the global norms of the gradients over the whole batch, `g_norm` and
    `d_norm`. Under float16 these are over the steps with a finite gradient; `g_skipped` and
    `d_skipped` are the shares of the steps without one.

    Under tf.distribute, `train_step` and `test_step` run in a replica on its part of the batch:
    losses are sums over that part, divided by the size of the whole batch as it is, gradients are
    summed over replicas, and BatchNorm takes its batch statistics over the part. Every replica
    must get an example. What a step returns is then the replica's own; `get_metrics_result()`
    outside of `strategy.run` gives the measures over all of them.

    Args:
        config: Settings; width, λ, losses, conditioning, what D sees and precision are used here.
        labels: Length L of y; 0 for the unconditional context encoder.
    """

    def __init__(self, config: PretrainConfig, labels: int):
        super().__init__(name="context_encoder_gan")
        self.config = config
        policy = POLICIES[config.precision]
        self.context_encoder = ContextEncoder(config.width, policy)
        self.discriminator = ProjectionDiscriminator(
            labels, config.width, config.conditioning, config.spectral_norm, policy
        )
        self.trackers = {name: keras.metrics.Mean(name=name) for name in measured(config)}
        self.build((None, *config.image_size, 1))

    def build(self, input_shape):
        """Creates all variables of F and D."""
        self.context_encoder.build(input_shape)
        self.discriminator.build((None, None, None, input_shape[-1]))

    def compile(self, **kwargs):
        """Two Adam optimizers with the config's learning rates, built (section 4.3).

        Under float16 each scales its loss, and skips a step whose gradient is not finite; F is
        then as it was, BatchNorm's statistics included.
        """
        super().compile(optimizer=None, jit_compile=False, **kwargs)
        self.g_optimizer = self._optimizer(self.config.g_learning_rate, self.context_encoder)
        self.d_optimizer = self._optimizer(self.config.d_learning_rate, self.discriminator)

    def _optimizer(self, learning_rate, network):
        optimizer = keras.optimizers.Adam(learning_rate, 0.9, 0.999)
        if self.config.precision == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(network.trainable_variables)
        return optimizer

    @property
    def metrics(self):
        """The trackers of `measured`, reset by Keras at the start of every epoch."""
        return list(self.trackers.values())

    def call(self, x, training=False):
        """Images with the prediction in place of the centre, float [N, H, W, 1]."""
        return paste_patch(x, self.context_encoder(mask_centre(x), training=training))

    def train_step(self, data):
        """One update of F and of D on a batch (x, y) or (x, y, present)."""
        x, y, present = keras.utils.unpack_x_y_sample_weight(data)
        batch_size = _sum_over_replicas(tf.cast(tf.shape(x)[0], tf.float32))
        if self.config.precision == "float16":
            statistics = self.context_encoder.non_trainable_variables
            before = [tf.identity(v.value) for v in statistics]
        self.discriminator.iterate()
        with tf.GradientTape(persistent=True) as tape:
            values = self._judge(x, y, present, training=True)
            joint = tf.reduce_sum(values["joint"]) / batch_size
            disc = tf.reduce_sum(values["disc"]) / batch_size
            joint = self.g_optimizer.scale_loss(joint)
            disc = self.d_optimizer.scale_loss(disc)
        g = tape.gradient(joint, self.context_encoder.trainable_variables)
        d = tape.gradient(disc, self.discriminator.trainable_variables)
        logs = self._log(values)
        g_logs, g_finite = self._update("g", self.g_optimizer, g, self.context_encoder)
        d_logs, _ = self._update("d", self.d_optimizer, d, self.discriminator)
        if self.config.precision == "float16":  # an overflow would stay in BatchNorm for ever
            for v, old in zip(statistics, before, strict=True):
                v.assign(tf.where(g_finite, v.value, old))
        return logs | g_logs | d_logs

    def test_step(self, data):
        """The same measures without an update, BatchNorm at its moving statistics."""
        x, y, present = keras.utils.unpack_x_y_sample_weight(data)
        return self._log(self._judge(x, y, present, training=False))

    def _judge(self, x, y, present, training):
        """Losses and logits of a batch, each float32 [N]."""
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
        disc = discriminator_loss(real["logit"], fake["logit"], self.config.adversarial)
        if self.config.conditioning == "projection":
            conditioning = {"p": (tf.abs(real["p"]) + tf.abs(fake["p"])) / 2}
        else:
            on_real = tag_loss(y, present, real["tags"])
            on_fake = tag_loss(y, present, fake["tags"])
            adv += TAG_WEIGHT * on_fake
            disc += TAG_WEIGHT * (on_real + on_fake)
            conditioning = {"tags_real": on_real, "tags_fake": on_fake}
        return {
            "joint": joint_loss(rec, adv, self.config.lambda_rec, self.config.lambda_adv),
            "rec": rec,
            "rec_of_mean": reconstruction_loss(patch, tf.zeros_like(patch)),
            "adv": adv,
            "disc": disc,
            "d_real": tf.sigmoid(real["logit"]),
            "d_fake": tf.sigmoid(fake["logit"]),
            "c_rf": (tf.abs(real["c_rf"]) + tf.abs(fake["c_rf"])) / 2,
            **conditioning,
        }

    def _update(self, name, optimizer, gradients, network):
        """Applies gradients, summed over replicas; logs their norm, and tells if it is finite.

        Keras' optimizer sums over replicas too, but LossScaleOptimizer looks for infinities
        before that, in the first replica alone: so each gives it an equal part of the sum.
        """
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        gradients = _sum_over_replicas(gradients)
        norm = tf.linalg.global_norm(gradients) / optimizer.scale_loss(1.0)
        finite = tf.math.is_finite(norm)
        if replicas > 1:
            gradients = [g / replicas for g in gradients]
        optimizer.apply(gradients, network.trainable_variables)
        if self.config.precision != "float16":
            return self._log({f"{name}_norm": norm}), finite
        share = tf.cast(finite, tf.float32)
        logs = self._log({f"{name}_norm": tf.where(finite, norm, 0.0)}, share)
        return logs | self._log({f"{name}_skipped": 1.0 - share}), finite

    def _log(self, values, sample_weight=None):
        for name, value in values.items():
            self.trackers[name].update_state(value, sample_weight)
        return {name: self.trackers[name].result() for name in values}


def _sum_over_replicas(values):
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
