"""The pretraining step: context encoder F against projection discriminator D."""

import keras
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.models.context_encoder import ContextEncoder
from tf_dicom_ce.models.discriminator import ProjectionDiscriminator
from tf_dicom_ce.models.encoder import POLICIES
from tf_dicom_ce.models.losses import (
    adversarial_loss,
    discriminator_loss,
    joint_loss,
    reconstruction_loss,
    tag_loss,
)
from tf_dicom_ce.models.patch import centre_patch, mask_centre, paste_patch
from tf_dicom_ce.models.tag_head import TagHead
from tf_dicom_ce.training.adam import FusedAdam

#: Weight of the loss on tags beside L_adv under `auxiliary`: that of AC-GAN's L_C beside L_S.
TAG_WEIGHT = 1.0


def measured(config: PretrainConfig) -> tuple[str, ...]:
    """What a step measures under these settings; the names in the logs."""
    conditioning = ("p",) if config.conditioning == "projection" else ("tags_real", "tags_fake")
    inpainting = ("rec", "rec_of_mean", "adv", "disc", "d_real", "d_fake", "c_rf", *conditioning)
    sides = ("g", "d") if config.inpaints else ("g",)
    return (
        "joint",
        *(inpainting if config.inpaints else ()),
        *(("tags", "tags_accuracy") if config.predicts_tags else ()),
        *(f"{side}_norm" for side in sides),
        *(f"{side}_skipped" for side in sides if config.precision == "float16"),
    )


class ContextEncoderGAN(keras.Model):
    """F minimises λ_rec L_rec + λ_adv L_adv (Eq. 3) while D maximises Eq. 2 (or Eq. 1).

    One forward pass of F serves both updates, so BatchNorm's statistics move once a step; both
    gradients are taken at the same weights.

    Under `auxiliary` conditioning (Odena et al., 2017) D does not see y: `tag_loss` is added, with
    weight `TAG_WEIGHT`, to D's loss on true and on predicted patches, and to L_adv on predicted.

    With λ_tags > 0 a `TagHead` on the encoder's P5, of the same forward pass, predicts y, whether
    D sees y or not: F minimises λ_rec L_rec + λ_adv L_adv + λ_tags L_tags, L_tags being its
    `tag_loss`, and the head is trained with F. With λ_rec = λ_adv = 0 the encoder sees whole
    images, without a hole, and neither decoder nor D is run or changed; their measures are then
    not taken.

    Logged per step: the losses `joint`, `rec`, `adv` and `disc`; `rec_of_mean`, the L_rec of
    painting each image's mean, which `rec` has to beat; the means of σ(D) on true and
    predicted patches, `d_real` and `d_fake`; the mean sizes |C_rf| and |P| over both, `c_rf` and
    `p`, or, under `auxiliary`, the losses on tags `tags_real` and `tags_fake` in place of `p`;
    of the head L_tags, `tags`, and the share of the labels of present tags that are on the right
    side of ½, `tags_accuracy`; and, in training, the global norms of the gradients over the whole
    batch, `g_norm` (with the head's) and `d_norm`. Under float16 these are over the steps with a
    finite gradient; `g_skipped` and `d_skipped` are the shares of the steps without one.

    Under tf.distribute, `train_step` and `test_step` run in a replica on its part of the batch:
    losses are sums over that part, divided by the size of the whole batch as it is, gradients are
    summed over replicas, and BatchNorm takes its batch statistics over the part. Every replica
    must get an example. What a step returns is then the replica's own; `get_metrics_result()`
    outside of `strategy.run` gives the measures over all of them.

    Args:
        config: Settings; width, λ, losses, conditioning, what D sees and precision are used here.
        labels: Length L of y; D sees y where `use_dicom` is on. 0: there are no tags.

    Raises:
        ValueError: λ_tags > 0, and no labels to predict.
    """

    def __init__(self, config: PretrainConfig, labels: int):
        super().__init__(name="context_encoder_gan")
        if config.predicts_tags and not labels:
            raise ValueError(f"Expected labels for lambda_tags > 0. Received: labels={labels}.")
        self.config, self.labels = config, labels
        policy = POLICIES[config.precision]
        self.context_encoder = ContextEncoder(config.width, policy)
        self.discriminator = ProjectionDiscriminator(
            labels if config.use_dicom else 0,
            config.width,
            config.conditioning,
            config.spectral_norm,
            policy,
        )
        self.trackers = {name: keras.metrics.Mean(name=name) for name in measured(config)}
        self.build((None, *config.image_size, 1))

    def build(self, input_shape):
        """Creates all variables of F, D and the head."""
        self.context_encoder.build(input_shape)
        self.discriminator.build((None, None, None, input_shape[-1]))
        if self.config.predicts_tags:
            # Made last, so that F and D start from the same weights with it and without.
            self.tag_head = TagHead(self.labels)
            self.tag_head.build(self.context_encoder.encoder.blocks[-1].output_shape)

    @property
    def f_variables(self) -> list[keras.Variable]:
        """What F's side trains: the encoder, with the decoder where it paints, and the head."""
        f = self.context_encoder if self.config.inpaints else self.context_encoder.encoder
        head = self.tag_head.trainable_variables if self.config.predicts_tags else []
        return [*f.trainable_variables, *head]

    def compile(self, **kwargs):
        """Two Adam optimizers with the config's learning rates, built (section 4.3).

        Under float16 each scales its loss, and skips a step whose gradient is not finite; F is
        then as it was, BatchNorm's statistics included.
        """
        super().compile(optimizer=None, jit_compile=False, **kwargs)
        d_variables = self.discriminator.trainable_variables
        self.g_optimizer = self._optimizer("g", self.config.g_learning_rate, self.f_variables)
        self.d_optimizer = self._optimizer("d", self.config.d_learning_rate, d_variables)

    def _optimizer(self, side, learning_rate, variables):
        optimizer = FusedAdam(learning_rate, name=f"{side}_adam")
        if self.config.precision == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name=f"{side}_loss_scale")
        optimizer.build(variables)
        return optimizer

    @property
    def metrics(self):
        """The trackers of `measured`, reset by Keras at the start of every epoch."""
        return list(self.trackers.values())

    def call(self, x, training=False):
        """Images with the prediction in place of the centre, float [N, H, W, 1]."""
        return paste_patch(x, self.context_encoder(mask_centre(x), training=training))

    def train_step(self, data):
        """One update of F and of D on a batch (x, y) or (x, y, present).

        `present` is needed under `auxiliary` and with λ_tags > 0.
        """
        x, y, present = _unpack(data)
        batch_size = _sum_over_replicas(tf.cast(tf.shape(x)[0], tf.float32))
        if self.config.precision == "float16":
            statistics = self.context_encoder.non_trainable_variables
            before = [tf.identity(v.value) for v in statistics]
        f_variables, d_variables = self.f_variables, self.discriminator.trainable_variables
        if self.config.inpaints:
            self.discriminator.iterate()
        with tf.GradientTape(persistent=True) as tape:
            values = self._judge(x, y, present, training=True)
            joint = self.g_optimizer.scale_loss(tf.reduce_sum(values["joint"]) / batch_size)
            if self.config.inpaints:
                disc = self.d_optimizer.scale_loss(tf.reduce_sum(values["disc"]) / batch_size)
        g = tape.gradient(joint, f_variables)
        d = tape.gradient(disc, d_variables) if self.config.inpaints else None
        logs = self._log(values)
        g_logs, g_finite = self._update("g", self.g_optimizer, g, f_variables)
        logs |= g_logs
        if self.config.inpaints:
            logs |= self._update("d", self.d_optimizer, d, d_variables)[0]
        if self.config.precision == "float16":  # an overflow would stay in BatchNorm for ever
            for v, old in zip(statistics, before, strict=True):
                v.assign(tf.where(g_finite, v.value, old))
        return logs

    def test_step(self, data):
        """The same measures without an update, BatchNorm at its moving statistics."""
        x, y, present = _unpack(data)
        return self._log(self._judge(x, y, present, training=False))

    def _judge(self, x, y, present, training):
        """Losses and logits of a batch, float32 [N] each but `tags_accuracy`, see `_predict`."""
        config, encoder = self.config, self.context_encoder.encoder
        p5 = encoder(mask_centre(x) if config.inpaints else x, training=training)["P5"]
        joint, values = 0.0, {}
        if config.inpaints:
            patch_hat = self.context_encoder.decoder(p5, training=training)
            values |= self._compare(x, y, present, patch_hat)
            joint += joint_loss(values["rec"], values["adv"], config.lambda_rec, config.lambda_adv)
        if config.predicts_tags:
            values |= self._predict(p5, y, present)
            joint += config.lambda_tags * values["tags"]
        return {"joint": joint, **values}

    def _predict(self, p5, y, present):
        """L_tags, float32 [N], and 1 or 0 for each label of a present tag: is it predicted?"""
        logits = self.tag_head(p5)
        right = tf.cast((logits > 0) == (y > 0), tf.float32)
        return {
            "tags": tag_loss(y, present, logits),
            "tags_accuracy": tf.boolean_mask(right, present > 0),
        }

    def _compare(self, x, y, present, patch_hat):
        """What L_rec and D make of true and predicted patches, float32 [N] each."""
        patch = centre_patch(x)
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
            "rec": rec,
            "rec_of_mean": reconstruction_loss(patch, tf.zeros_like(patch)),
            "adv": adv,
            "disc": disc,
            "d_real": tf.sigmoid(real["logit"]),
            "d_fake": tf.sigmoid(fake["logit"]),
            "c_rf": (tf.abs(real["c_rf"]) + tf.abs(fake["c_rf"])) / 2,
            **conditioning,
        }

    def _update(self, name, optimizer, gradients, variables):
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
        optimizer.apply(gradients, variables)
        if self.config.precision != "float16":
            return self._log({f"{name}_norm": norm}), finite
        share = tf.cast(finite, tf.float32)
        logs = self._log({f"{name}_norm": tf.where(finite, norm, 0.0)}, share)
        return logs | self._log({f"{name}_skipped": 1.0 - share}), finite

    def _log(self, values, sample_weight=None):
        for name, value in values.items():
            self.trackers[name].update_state(value, sample_weight)
        return {name: self.trackers[name].result() for name in values}


def _unpack(data):
    """Images, tags, and which of these are known."""
    x, tags, *present = data
    if isinstance(tags, dict):
        return x, tags["tags"], tags["known"]
    return x, tags, *(present or [None])


def _sum_over_replicas(values):
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
