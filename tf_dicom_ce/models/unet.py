"""The U-Net on an encoder (section 4.2, Appendix A.2.2, Ronneberger et al., 2015)."""

import keras
from keras import layers

from tf_dicom_ce.models.encoder import channels
from tf_dicom_ce.models.normalization import FusedBatchNormalization

UP_CHANNELS = (256, 128, 64, 32, 16)


class UNet(keras.Model):
    """Encoder and five up-convolutional blocks with skip connections.

    A block doubles the resolution by a 3×3 up-convolution, joins the encoder's scale of that
    resolution – P4, P3, P2, P1 and, at full resolution, the image itself – and applies a 3×3
    convolution; each is followed by BatchNorm and ReLU. A 1×1 convolution gives the logits.

    Args:
        encoder: Layer from z-scored images to the dict of scales.
        classes: Number of classes, background included.
        width: Multiplies the channels of the blocks.
        policy: Keras' dtype policy of the blocks, as in `VGG16Encoder`.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        Logits, float32 [N, H, W, classes].
    """

    def __init__(
        self, encoder: keras.Layer, classes: int, width: float = 1.0, policy: str = "float32"
    ):
        super().__init__(name="unet")
        self.encoder = encoder
        self.ups, self.joins = [], []
        for k, count in enumerate(UP_CHANNELS, start=1):
            count = channels(count, width)
            like = {"padding": "same", "use_bias": False, "dtype": policy}
            up = layers.Conv2DTranspose(count, 3, 2, name="up", **like)
            join = layers.Conv2D(count, 3, name="conv", **like)
            self.ups.append(_normalized(up, f"up{k}"))
            self.joins.append(_normalized(join, f"join{k}"))
        self.logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")

    def call(self, x, training=False):
        scales = self.encoder(x, training=training)
        skips = (scales["P4"], scales["P3"], scales["P2"], scales["P1"], x)
        h = scales["P5"]
        for up, join, skip in zip(self.ups, self.joins, skips, strict=True):
            h = up(h, training=training)
            h = join(keras.ops.concatenate([h, skip], axis=-1), training=training)
        return self.logits(h)


def _normalized(convolution: keras.Layer, name: str) -> keras.Sequential:
    policy = convolution.dtype_policy
    normalization = FusedBatchNormalization(name="bn", dtype=policy)
    relu = layers.ReLU(name="relu", dtype=policy)
    return keras.Sequential([convolution, normalization, relu], name=name)
