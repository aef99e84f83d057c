"""The context encoder F: it paints in the centre of an image (section 3.1, Pathak et al., 2016)."""

import keras
from keras import layers

from tf_dicom_ce.models.encoder import VGG16Encoder, channels
from tf_dicom_ce.models.normalization import FusedBatchNormalization

DECODER_CHANNELS = (256, 128, 64, 32)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ContextEncoder(keras.Model):
    """F = decoder ∘ encoder.

    The decoder is four up-sampling blocks of [3×3 up-convolution, BatchNorm, ReLU] (section 4.2)
    and a 3×3 convolution to one channel. Four doublings after five halvings give half the height
    and half the width: exactly the patch.

    Args:
        width: Multiplies every channel count.
        policy: As in `VGG16Encoder`; the last convolution is float32 under every one.

    Call:
        x_hat: float [N, H, W, 1], z-scored, the centre cut out (zeros).

    Returns:
        float32 [N, H/2, W/2, 1], the predicted patch F(x̂): 256×384 → 8×12×512 → 128×192.
    """

    def __init__(
        self, width: float = 1.0, policy: str = "float32", name: str = "context_encoder", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.width = width
        self.policy = policy
        self.encoder = VGG16Encoder(width, policy)
        self.decoder = keras.Sequential(
            [
                layer
                for k, count in enumerate(DECODER_CHANNELS, start=1)
                for layer in (
                    layers.Conv2DTranspose(
                        channels(count, width),
                        3,
                        strides=2,
                        padding="same",
                        use_bias=False,
                        name=f"up{k}",
                        dtype=policy,
                    ),
                    FusedBatchNormalization(name=f"bn{k}", dtype=policy),
                    layers.ReLU(name=f"relu{k}", dtype=policy),
                )
            ]
            + [layers.Conv2D(1, 3, padding="same", name="patch", dtype="float32")],
            name="decoder",
        )

    def build(self, input_shape):
        """Creates all variables of encoder and decoder."""
        self.encoder.build(input_shape)
        self.decoder.build((None, None, None, self.encoder.blocks[-1].output_shape[-1]))

    def call(self, x_hat, training=False):
        latent = self.encoder(x_hat, training=training)["P5"]
        return self.decoder(latent, training=training)

    def get_config(self):
        return {"width": self.width, "policy": self.policy, "name": self.name}
