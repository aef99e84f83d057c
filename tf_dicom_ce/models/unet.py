"""The U-Net on an encoder (section 4.2, Appendix A.2.2, Ronneberger et al., 2015)."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.conv_bn_relu import ConvBNReLU
from tf_dicom_ce.models.encoder import channels
from tf_dicom_ce.models.head import Head
from tf_dicom_ce.models.losses import soft_dice_loss
from tf_dicom_ce.models.outputs import segmentation_outputs

UP_CHANNELS = (256, 128, 64, 32, 16)


@keras.saving.register_keras_serializable("tf_dicom_ce")
def soft_dice(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`soft_dice_loss` of masks as Keras hands them to a loss: in floats."""
    return soft_dice_loss(tf.cast(masks, tf.int32), logits)


@keras.saving.register_keras_serializable("tf_dicom_ce")
def dice(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Dice of the likeliest classes of a batch, 0…1: `soft_dice_loss` with hard probabilities."""
    certain = 50.0 * tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
    return 1.0 - soft_dice(masks, certain)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class UNet(Head):
    """Encoder and five up-convolutional blocks with skip connections; see `Head` for its use.

    A block doubles the resolution by a 3×3 up-convolution, joins the encoder's scale of that
    resolution – P4, P3, P2, P1 and, at full resolution, the image itself – and applies a 3×3
    convolution; each is followed by BatchNorm and ReLU. A 1×1 convolution gives the logits.

    Args:
        encoder: From z-scored images to the dict of scales.
        classes: Number of classes, background included.
        width_multiplier: Multiplies the channels of the blocks.
        dtype: Keras' dtype policy of the blocks.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        Logits, float32 [N, H, W, classes]. Targets are masks, integer [N, H, W], 0 is background;
        the loss is soft Dice, the metric `dice`; `predict` gives `probabilities` and `mask`.
    """

    task = "segmentation"

    def __init__(
        self,
        encoder: keras.Layer,
        classes: int,
        width_multiplier: float = 1.0,
        dtype=None,
        name: str = "unet",
        **kwargs,
    ):
        super().__init__(encoder, classes, width_multiplier, dtype, name, **kwargs)
        self.ups, self.joins = [], []
        for k, count in enumerate(UP_CHANNELS, start=1):
            count = channels(count, width_multiplier)
            like = {"filters": count, "dtype": self.dtype_policy}
            self.ups.append(ConvBNReLU(**like, strides=2, transpose=True, name=f"up{k}"))
            self.joins.append(ConvBNReLU(**like, name=f"join{k}"))
        self.logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")

    def call(self, x, training=False):
        scales = self.encoder(x, training=training)
        skips = (scales["P4"], scales["P3"], scales["P2"], scales["P1"], x)
        h = scales["P5"]
        for up, join, skip in zip(self.ups, self.joins, skips, strict=True):
            h = up(h, training=training)
            h = join(keras.ops.concatenate([h, skip], axis=-1), training=training)
        return self.logits(h)

    def answer(self, logits):
        """See `segmentation_outputs`."""
        return segmentation_outputs(logits)

    def default_loss(self):
        """Soft Dice (Appendix A.2.2)."""
        return soft_dice

    def default_metric(self):
        """The mean over batches of `dice`."""
        return keras.metrics.MeanMetricWrapper(dice, "dice")
