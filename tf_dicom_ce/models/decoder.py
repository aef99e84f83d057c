"""The decoder of the context encoder F, which paints the patch (sections 3.1 and 4.2)."""

import keras
from keras import layers

from tf_dicom_ce.models.conv_bn_relu import ConvBNReLU, build_in_turn
from tf_dicom_ce.models.encoder import channels

DECODER_CHANNELS = (256, 128, 64, 32)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Decoder(keras.Model):
    """Four blocks of [3×3 up-convolution, BatchNorm, ReLU], and a 3×3 convolution to one channel.

    F(x̂) = decoder(encoder(x̂)). The decoder maps the encoder's `P5`, float [N, H/32, W/32, C], to
    the patch, float32 [N, H/2, W/2, 1]: five halvings and four doublings give half the height and
    half the width. For example, 256×384 → 8×12×512 → 128×192.

    `width_multiplier` multiplies every channel count. `dtype` is as in `VGG16Encoder`, but the last
    convolution is float32 under every policy.
    """

    def __init__(self, width_multiplier: float = 1.0, name: str = "decoder", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.width_multiplier = width_multiplier
        like = {"strides": 2, "transpose": True, "dtype": self.dtype_policy}
        self.ups = [
            ConvBNReLU(channels(count, width_multiplier), name=f"up{k}", **like)
            for k, count in enumerate(DECODER_CHANNELS, start=1)
        ]
        self.patch = layers.Conv2D(1, 3, padding="same", name="patch", dtype="float32")

    def build(self, input_shape):
        build_in_turn((*self.ups, self.patch), input_shape)

    def call(self, p5, training=False):
        for up in self.ups:
            p5 = up(p5, training=training)
        return self.patch(p5)

    def get_config(self):
        config = super().get_config()
        del config["trainable"]
        return {**config, "width_multiplier": self.width_multiplier}
