"""The pretraining step: context encoder F against discriminator D (section 3.1)."""

import keras
import tensorflow as tf

from tf_dicom_ce.models import losses
from tf_dicom_ce.models.decoder import Decoder
from tf_dicom_ce.models.measured import MeasuredModel
from tf_dicom_ce.models.tag_head import TagHead

#: Weight of D's loss on tags relative to L_adv, as AC-GAN's L_C relative to L_S.
TAG_WEIGHT = 1.0


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ContextEncoderGAN(MeasuredModel):
    """F minimises λ_rec L_rec + λ_adv L_adv (Eq. 3) while D maximises Eq. 2 (or Eq. 1).

        gan = ContextEncoderGAN(VGG16Encoder(), ProjectionDiscriminator(labels=11))
        gan.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-5))
        gan.fit(train, validation_data=validation, epochs=200)

    A batch is images, z-scored, float [N, H, W, 1], or (images, {"tags": y, "known": mask}) with y
    and mask float [N, L]. y is multi-hot. `known` is 1 over the span of a known tag; without it,
    all tags are known. Without tags y is zero, and D falls back to Eq. 1.

    One forward pass of F serves both updates, so BatchNorm's statistics move once per step. Both
    gradients are taken at the same weights.

    Logged per step:

    - `joint`, `rec`, `adv`, `disc`: the losses.
    - `rec_of_mean`: L_rec of painting each image's mean, which `rec` has to beat.
    - `d_real`, `d_fake`: the means of σ(D) on true and on predicted patches.
    - `c_rf`, `p`: the mean sizes |C_rf| and |P| over both; other discriminators log their own
      measures in place of `p`.
    - `tags`, `tags_accuracy`, with a tag head: its loss, and the share of the labels of known tags
      on the right side of ½.
    - `g_norm`, `d_norm`, in training: the global norms of the gradients over the whole batch;
      `g_norm` includes the tag head. Under float16 the means are over the steps with a finite
      gradient; `g_skipped` and `d_skipped` are the shares of the other steps.

    LearningRateScheduler and ReduceLROnPlateau set both learning rates. BackupAndRestore needs a
    built model, `gan.build((None, H, W, 1))`, and is not exact in the middle of an epoch;
    `pretrain` is.

    Args:
        encoder: Any Keras model from images to a dict with `P5`.
        discriminator: D, see `models.discriminator`.
        lambda_rec: λ_rec.
        lambda_adv: λ_adv.
        adversarial: Form of the losses of F and D: `nonsaturating`, `minimax` (Eq. 1 to the letter)
            or `hinge`; see `adversarial_loss`.
        composite: Whether D sees the whole image with the patch in it, instead of the patch.
        tag_head: A head that predicts y from P5 in the same forward pass and is trained with F.
        lambda_tags: Weight of the tag head's `tag_loss`, added to Eq. 3.
        decoder: By default a `Decoder` with the encoder's `width_multiplier` and dtype policy.
    """

    def __init__(
        self,
        encoder: keras.Model,
        discriminator: keras.Model,
        lambda_rec: float = 0.99,
        lambda_adv: float = 0.01,
        adversarial: str = "nonsaturating",
        composite: bool = False,
        tag_head: TagHead | None = None,
        lambda_tags: float = 0.0,
        decoder: keras.Model | None = None,
        name: str = "context_encoder_gan",
    ):
        of_d = ("disc", "d_real", "d_fake", "c_rf", *discriminator.measures)
        of_head = ("tags", "tags_accuracy") if tag_head else ()
        labels = max(discriminator.labels, tag_head.labels if tag_head else 0)
        measures = ("joint", "rec", "rec_of_mean", "adv", *of_d, *of_head)
        super().__init__(measures, ("g", "d"), labels, name)
        self.encoder, self.discriminator, self.tag_head = encoder, discriminator, tag_head
        width = getattr(encoder, "width_multiplier", 1.0)
        self.decoder = decoder or Decoder(width, dtype=encoder.dtype_policy)
        self.lambda_rec, self.lambda_adv, self.lambda_tags = lambda_rec, lambda_adv, lambda_tags
        self.adversarial, self.composite = adversarial, composite

    def build(self, input_shape):
        self.build_parts({self.encoder: input_shape})
        p5 = self.encoder(keras.KerasTensor(input_shape))["P5"].shape
        self.build_parts({self.decoder: p5, self.discriminator: input_shape})
        if self.tag_head:
            self.build_parts({self.tag_head: p5})

    def variables_of(self, side):
        """The variables that F's side, `g`, or D's side, `d`, trains; `g` has the tag head's."""
        if side == "d":
            return self.discriminator.trainable_variables
        head = self.tag_head.trainable_variables if self.tag_head else []
        return [*self.encoder.trainable_variables, *self.decoder.trainable_variables, *head]

    def call(self, x, training=False):
        """Images with the prediction F(x̂) in place of their centre, float [N, H, W, 1]."""
        return paste_patch(x, self.paint(x, training))

    def paint(self, x, training=False):
        """F(x̂), the predicted patches of images x, float32 [N, H/2, W/2, 1]."""
        p5 = self.encoder(mask_centre(x), training=training)["P5"]
        return self.decoder(p5, training=training)

    def step(self, x, y, known):
        """One update of F and of D."""
        self.discriminator.iterate()
        with tf.GradientTape(persistent=True) as tape:
            values, weights = self.measure(x, y, known, training=True)
            l_f = self.g_optimizer.scale_loss(self.mean(values["joint"]))
            l_d = self.d_optimizer.scale_loss(self.mean(values["disc"]))
        g = tape.gradient(l_f, self.variables_of("g"))
        d = tape.gradient(l_d, self.variables_of("d"))
        return self.log(values, weights) | self.update("g", g) | self.update("d", d)

    def measure(self, x, y, known, training):
        """Computes the losses and measures of L_rec, D and the tag head for a batch."""
        p5 = self.encoder(mask_centre(x), training=training)["P5"]
        patch, patch_hat = centre_patch(x), self.decoder(p5, training=training)
        real = self.discriminator(self.seen_by_d(x, patch), y)
        fake = self.discriminator(self.seen_by_d(x, patch_hat), y)
        on_tags = self.discriminator.tag_losses(real, fake, y, known)
        rec = losses.reconstruction_loss(patch, patch_hat)
        adv = losses.adversarial_loss(fake["logit"], self.adversarial)
        disc = losses.discriminator_loss(real["logit"], fake["logit"], self.adversarial)
        if on_tags:
            adv += TAG_WEIGHT * on_tags["tags_fake"]
            disc += TAG_WEIGHT * (on_tags["tags_real"] + on_tags["tags_fake"])
        values = {
            "joint": losses.joint_loss(rec, adv, self.lambda_rec, self.lambda_adv),
            "rec": rec,
            "rec_of_mean": losses.reconstruction_loss(patch, tf.zeros_like(patch)),
            "adv": adv,
            "disc": disc,
            "d_real": tf.sigmoid(real["logit"]),
            "d_fake": tf.sigmoid(fake["logit"]),
            "c_rf": (tf.abs(real["c_rf"]) + tf.abs(fake["c_rf"])) / 2,
            **(on_tags or {"p": (tf.abs(real["p"]) + tf.abs(fake["p"])) / 2}),
        }
        if not self.tag_head:
            return values, {}
        on_head, weights = self.tag_head.measure(p5, y, known)
        values["joint"] += self.lambda_tags * on_head["tags"]
        return values | on_head, weights

    def seen_by_d(self, x, patch):
        """The input of D for a true or predicted patch: the patch, or the whole image with it."""
        return paste_patch(x, patch) if self.composite else patch


def centre_patch(image: tf.Tensor) -> tf.Tensor:
    """The patch x that F predicts: half of height and width, at the centre (section 3.1).

    Args:
        image: [N, H, W, C], H and W multiples of 4.

    Returns:
        [N, H/2, W/2, C].
    """
    height, width = image.shape[1:3]
    return image[:, height // 4 : height * 3 // 4, width // 4 : width * 3 // 4, :]


def paste_patch(image: tf.Tensor, patch: tf.Tensor) -> tf.Tensor:
    """The image with `patch` ([N, H/2, W/2, C]) in place of its centre, differentiable in both."""
    height, width = image.shape[1:3]
    margins = [[0, 0], [height // 4] * 2, [width // 4] * 2, [0, 0]]
    hole = tf.pad(tf.ones_like(patch), margins)
    return image * (1.0 - hole) + tf.pad(patch, margins)


def mask_centre(image: tf.Tensor) -> tf.Tensor:
    """The input x̂ of F: the centre set to 0, the mean of a z-scored image (section 3.1)."""
    return paste_patch(image, tf.zeros_like(centre_patch(image)))
