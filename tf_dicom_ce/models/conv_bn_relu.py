"""The one layer of encoder, decoder and U-Net, and a block of several."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.halves import in_halves
from tf_dicom_ce.models.normalization import FusedBatchNormalization
from tf_dicom_ce.models.recomputing import relu_of_norm

#: Values of an image after a convolution from which BatchNorm and ReLU are computed again for the
#: gradient, see `relu_of_norm`: with fewer it saves little.
RECOMPUTED_FROM = 2**20


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ConvBNReLU(layers.Layer):
    """ReLU(BatchNorm(convolution(x))); the convolution has no bias: BatchNorm's β takes its place.

    Args:
        filters: Channels of the result.
        kernel_size: Height and width of the kernel.
        strides: Of the convolution; an up-convolution enlarges by it.
        transpose: Whether it is an up-convolution.
        **kwargs: `name` and `dtype`, Keras' dtype policy.

    Call:
        x: float [N, H, W, C].

    Returns:
        float [N, H', W', filters] in the policy's compute dtype, H' and W' divided by `strides`, or
        multiplied.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        transpose: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.transpose = transpose
        like = {"padding": "same", "use_bias": False, "dtype": self.dtype_policy}
        kind = layers.Conv2DTranspose if transpose else layers.Conv2D
        self.conv = kind(filters, kernel_size, strides, name="conv", **like)
        self.norm = FusedBatchNormalization(name="bn", dtype=self.dtype_policy)

    def build(self, input_shape):
        """Creates kernel, γ, β and the moving statistics."""
        self.conv.build(input_shape)
        self.norm.build(self.compute_output_shape(input_shape))

    def compute_output_shape(self, input_shape):
        """That of the convolution."""
        return self.conv.compute_output_shape(input_shape)

    def call(self, x, training=False):
        x = in_halves(self.conv, x) if training else self.conv(x)
        return tf.nn.relu(self.norm(x, training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "transpose": self.transpose,
        }


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Block(layers.Layer):
    """n × `ConvBNReLU` and a 2×2 max pool; in training with half of the memory.

    Where an image has `RECOMPUTED_FROM` values and every BatchNorm is trained, what comes out of a
    ReLU is not kept for the gradient but computed again. The result is the same.

    Args:
        convolutions: n.
        filters: Channels of each.
        **kwargs: `name` and `dtype`, Keras' dtype policy.

    Call:
        x: float [N, H, W, C].

    Returns:
        float [N, H/2, W/2, filters].
    """

    def __init__(self, convolutions: int, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.convolutions = [
            ConvBNReLU(filters, name=f"conv{j}", dtype=self.dtype_policy)
            for j in range(1, convolutions + 1)
        ]
        self.pool = layers.MaxPooling2D(2, name="pool", dtype=self.dtype_policy)

    def build(self, input_shape):
        """Creates the variables of all convolutions."""
        for layer in self.convolutions:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape):
        """Half the height and width."""
        return self.pool.compute_output_shape((*input_shape[:-1], self.filters))

    def call(self, x, training=False):
        if training and self._recomputes(x):
            return self._recomputing(x)
        for layer in self.convolutions:
            x = layer(x, training=training)
        return self.pool(x)

    def _recomputes(self, x) -> bool:
        height, width = x.shape[1:3]
        known = height is not None and width is not None
        trained = all(layer.norm.trainable for layer in self.convolutions)
        return known and trained and height * width * self.filters >= RECOMPUTED_FROM

    def _recomputing(self, x):
        before = self.convolutions[0].conv
        if x.shape[-1] > 1:  # of an image it is cheap enough to be computed again, too
            x, before = before(x), tf.identity
        afters = [*(layer.conv for layer in self.convolutions[1:]), self.pool]
        for layer, after in zip(self.convolutions, afters, strict=True):
            x, before = relu_of_norm(x, before, layer.norm, after), tf.identity
        return x

    def get_config(self):
        config = {"convolutions": len(self.convolutions), "filters": self.filters}
        return super().get_config() | config
