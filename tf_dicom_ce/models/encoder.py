"""VGG16 with batch normalisation, without its classifier (section 4.2)."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.halves import in_halves
from tf_dicom_ce.models.normalization import FusedBatchNormalization
from tf_dicom_ce.models.recomputing import relu_of_norm

#: Convolutions per block and their channels at width 1 (Simonyan & Zisserman, 2014, column D).
VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))

#: Values of an image after a convolution from which BatchNorm and ReLU are computed again for the
#: gradient, see `relu_of_norm`: with fewer it saves little.
RECOMPUTED_FROM = 2**20

#: Setting `precision` -> Keras' dtype policy of the layers.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

#: Names of the five scales; P_k has stride 2^k.
SCALES = ("P1", "P2", "P3", "P4", "P5")


def channels(count: int, width: float) -> int:
    """A channel count scaled by `width`, at least 1."""
    return max(1, round(count * width))


@keras.saving.register_keras_serializable("tf_dicom_ce")
class VGG16Encoder(keras.Model):
    """Five blocks of [3×3 convolution, BatchNorm, ReLU] × n and a 2×2 max pool.

    The convolutions carry no bias: BatchNorm's β takes its place.

    Args:
        width: Multiplies every channel count; 1.0 is VGG16.
        policy: Keras' dtype policy of the layers: `float32`, `mixed_bfloat16` or `mixed_float16`;
            the variables are float32 under every one, the scales come in its compute dtype.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        dict of the five scales `P1`…`P5`: float [N, H/2^k, W/2^k, C_k] with
        C = 64, 128, 256, 512, 512 times `width`. At 256×384 `P5` is 8×12×512.
    """

    def __init__(
        self, width: float = 1.0, policy: str = "float32", name: str = "encoder", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.width = width
        self.policy = policy
        self.blocks = [
            keras.Sequential(
                [
                    layer
                    for j in range(1, convolutions + 1)
                    for layer in (
                        layers.Conv2D(
                            channels(count, width),
                            3,
                            padding="same",
                            use_bias=False,
                            name=f"conv{j}",
                            dtype=policy,
                        ),
                        FusedBatchNormalization(name=f"bn{j}", dtype=policy),
                        layers.ReLU(name=f"relu{j}", dtype=policy),
                    )
                ]
                + [layers.MaxPooling2D(2, name="pool", dtype=policy)],
                name=f"block{k}",
            )
            for k, (convolutions, count) in enumerate(VGG16_BLOCKS, start=1)
        ]

    def build(self, input_shape):
        """Creates all variables, so that weights can be loaded before the first call."""
        shape = (None, None, None, input_shape[-1])
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)

    def call(self, x, training=False):
        scales = {}
        for name, block in zip(SCALES, self.blocks, strict=True):
            x = scales[name] = _trained(block, x) if training else block(x)
        return scales

    def in_float32(self) -> "VGG16Encoder":
        """A copy that computes in float32, with the same weights: what is exported."""
        copy = VGG16Encoder(self.width, name=self.name)
        copy.build((None, None, None, 1))
        copy.set_weights(self.get_weights())
        return copy

    def get_config(self):
        return {"width": self.width, "policy": self.policy, "name": self.name}


def _trained(block: keras.Sequential, x: tf.Tensor) -> tf.Tensor:
    """What a block gives in training: with half the memory if it is large, else in less time."""
    *triples, pool = block.layers
    convolutions, norms = triples[::3], triples[1::3]
    values = x.shape[1] * x.shape[2] * convolutions[0].filters
    if not block.trainable:
        return block(x)
    if values < RECOMPUTED_FROM:
        for convolution, norm in zip(convolutions, norms, strict=True):
            x = tf.nn.relu(norm(in_halves(convolution, x), training=True))
        return pool(x)
    before = convolutions[0]
    if x.shape[-1] > 1:  # of an image it is cheap enough to be computed again, too
        x, before = before(x), tf.identity
    for norm, after in zip(norms, [*convolutions[1:], pool], strict=True):
        x, before = relu_of_norm(x, before, norm, after), tf.identity
    return x
