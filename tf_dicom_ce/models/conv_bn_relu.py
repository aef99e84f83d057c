"""The layer of encoder, decoder and U-Net, a block of such layers, and what makes them fast."""

from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf
from keras import layers

#: Values per image, after a convolution, from which BatchNorm and ReLU are recomputed for the
#: gradient, see `_relu_of_norm`. With fewer values, recomputing saves little.
RECOMPUTED_FROM = 2**20


def build_in_turn(chain: Iterable[keras.Layer], shape: tuple) -> None:
    """Creates the variables of a chain of layers, one after the other."""
    for layer in chain:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class ConvBNReLU(layers.Layer):
    """ReLU(BatchNorm(convolution(x))); BatchNorm's β takes the place of the convolution's bias.

    Maps float [N, H, W, C] to [N, H', W', filters] in the compute dtype of the policy `dtype`. H'
    and W' are H and W divided by `strides`, or multiplied in an up-convolution (`transpose`).
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
        self.conv.build(input_shape)
        self.norm.build(self.compute_output_shape(input_shape))

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def call(self, x, training=False):
        x = in_halves(self.conv, x) if training else self.conv(x)
        return tf.nn.relu(self.norm(x, training=training))

    def get_config(self):
        own = ("filters", "kernel_size", "strides", "transpose")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Block(layers.Layer):
    """n × `ConvBNReLU` and a 2×2 max pool: float [N, H, W, C] to [N, H/2, W/2, filters].

    Training takes half of the memory of plain layers. Where an image has `RECOMPUTED_FROM` values
    and every BatchNorm is trained, the outputs of the ReLUs are not kept for the gradient but
    recomputed. The result is the same.
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
        build_in_turn(self.convolutions, input_shape)

    def compute_output_shape(self, input_shape):
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
        norms = [layer.norm for layer in self.convolutions]
        trained = all(norm.trainable and not norm.synchronized for norm in norms)
        return known and trained and height * width * self.filters >= RECOMPUTED_FROM

    def _recomputing(self, x):
        before = self.convolutions[0].conv
        if x.shape[-1] > 1:  # for one channel the convolution is cheap enough to recompute, too
            x, before = before(x), tf.identity
        afters = [*(layer.conv for layer in self.convolutions[1:]), self.pool]
        for layer, after in zip(self.convolutions, afters, strict=True):
            x, before = _relu_of_norm(x, before, layer.norm, after), tf.identity
        return x

    def get_config(self):
        config = {"convolutions": len(self.convolutions), "filters": self.filters}
        return super().get_config() | config


@keras.saving.register_keras_serializable("tf_dicom_ce")
class FusedBatchNormalization(layers.BatchNormalization):
    """y = γ (x − μ) / √(σ² + ε) + β by TensorFlow's fused op: one pass forward and one back.

    Keras' layer computes the same with some ten element-wise ops, which take a tenth of a training
    step on a CPU. As in Keras' layer, the moving statistics take the batch's biased σ². μ, σ, γ and
    β are float32 under every policy; half-precision images go in and come out without a cast.

    Keras' own layer is used with moving statistics, where the fused op is no faster, and with
    `synchronized` or a mask, because the fused op does not see other replicas or leave pixels out.
    Momentum and ε are those of torchvision's VGG16-BN.

    Call:
        inputs: float [N, H, W, C] in the policy's compute dtype; the result has the same dtype.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        training = bool(training and self.trainable)
        if self.synchronized or mask is not None or not training:
            return super().call(inputs, training=training, mask=mask)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon
        )
        self.move(mean, self.biased(variance, inputs))
        return y

    def biased(self, variance, x):
        """Turns the op's σ² of the batch x, divided by n − 1, into the biased σ²."""
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float32)
        return variance * (count - 1.0) / count

    def move(self, mean, variance):
        """Moves the moving statistics towards μ and σ² of a batch."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))


def with_fused_norms(network: keras.Model) -> keras.Model:
    """A copy of a functional model whose BatchNorms are fused, with the same names and weights."""

    def copied(layer: keras.Layer) -> keras.Layer:
        fused = type(layer) is layers.BatchNormalization and layer.scale and layer.center
        return (FusedBatchNormalization if fused else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    return copy


def _relu_of_norm(
    inputs: tf.Tensor,
    before: Callable[[tf.Tensor], tf.Tensor],
    norm: FusedBatchNormalization,
    after: keras.Layer,
) -> tf.Tensor:
    """after(ReLU(norm(before(inputs)))), keeping only `inputs` for the gradient.

    A plain stack of convolutions keeps BatchNorm's input, for BatchNorm's gradient, and ReLU's
    output, for the gradient of the next layer. Here the gradient recomputes both, BatchNorm with
    the known μ and σ² in one pass over memory. `before` is the identity, or a cheap convolution of
    a one-channel image; `norm` uses the statistics of the batch; `after` is a convolution or a
    pool.
    """
    first, second = (getattr(function, "variables", []) for function in (before, after))

    @tf.custom_gradient
    def recomputing(inputs, gamma, beta, *weights):
        op = {"scale": gamma, "offset": beta, "epsilon": norm.epsilon}
        of_before, of_after = weights[: len(first)], weights[len(first) :]
        x = with_weights(before, of_before, inputs)
        y, mean, variance, *saved = tf.raw_ops.FusedBatchNormV3(x=x, mean=[], variance=[], **op)
        variance = norm.biased(variance, x)

        def gradient(d_out, _mean, _variance):
            with tf.control_dependencies([d_out]):  # not sooner
                again = tf.identity(inputs)
            with tf.GradientTape() as tape:
                tape.watch((again, of_before))
                x = with_weights(before, of_before, again)
            y = tf.raw_ops.FusedBatchNormV3(
                x=x, mean=mean, variance=variance, is_training=False, **op
            ).y
            with tf.GradientTape() as tape_after:
                tape_after.watch((y, of_after))
                out = with_weights(after, of_after, tf.nn.relu(y))
            d_y, *d_after = tape_after.gradient(out, (y, *of_after), d_out)
            with tf.control_dependencies(d_after):
                d_y = tf.identity(d_y)  # frees y and d_out before the next ops run
            d_x, d_gamma, d_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=d_y,
                x=x,
                scale=gamma,
                epsilon=norm.epsilon,
                **{f"reserve_space_{k}": space for k, space in enumerate(saved, start=1)},
            )
            d_inputs, *d_before = tape.gradient(x, (again, *of_before), d_x)
            return d_inputs, d_gamma, d_beta, *d_before, *d_after

        return (with_weights(after, of_after, tf.nn.relu(y)), mean, variance), gradient

    weights = (variable.value for variable in (norm.gamma, norm.beta, *first, *second))
    out, mean, variance = recomputing(inputs, *weights)
    norm.move(mean, variance)
    return out


def in_halves(layer: keras.Layer, x: tf.Tensor) -> tf.Tensor:
    """Computes layer(x) by two parallel ops, half of the batch each, if an op has one thread.

    The forward pass of an encoder is a chain of ops, and each op waits for the one before. With one
    thread per op, only one core would work. The gradient is taken for the whole batch at once: the
    gradients for x and for the layer's weights run in parallel anyway.

    Args:
        layer: A layer that treats every example alike, such as a convolution.
        x: float [N, …].

    Returns:
        The output of `layer`.
    """
    one_thread = tf.config.threading.get_intra_op_parallelism_threads() == 1
    if not one_thread or x.shape[0] is None or x.shape[0] % 2:
        return layer(x)

    @tf.custom_gradient
    def both(x, *weights):
        def gradient(d_out):
            with tf.GradientTape() as tape:
                tape.watch((x, weights))
                out = with_weights(layer, weights, x)
            return tape.gradient(out, (x, *weights), d_out)

        halves = [with_weights(layer, weights, half) for half in tf.split(x, 2)]
        return tf.concat(halves, 0), gradient

    return both(x, *(variable.value for variable in layer.variables))


def with_weights(
    layer: Callable[[tf.Tensor], tf.Tensor], weights: Sequence[tf.Tensor], x: tf.Tensor
) -> tf.Tensor:
    """Computes layer(x) with `weights` in place of the layer's variables.

    A custom gradient that calls a layer once more must not read its variables once more: TensorFlow
    2.21's graph optimizer lets the optimizer update an up-convolution's kernel before such a second
    read has been used. The gradient was then taken at other weights, once in some 10,000 steps.
    """
    if not weights:
        return layer(x)
    with keras.StatelessScope(zip(layer.variables, weights, strict=True)):
        return layer(x)
