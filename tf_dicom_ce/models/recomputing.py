"""Convolution, BatchNorm and ReLU in training, of which half is kept for the gradient."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tf_dicom_ce.models.normalization import FusedBatchNormalization


def relu_of_norm(
    inputs: tf.Tensor,
    before: Callable[[tf.Tensor], tf.Tensor],
    norm: FusedBatchNormalization,
    after: keras.Layer,
) -> tf.Tensor:
    """after(ReLU(norm(before(inputs)))), of which `inputs` alone are kept for the gradient.

    A stack of convolutions would keep what comes before BatchNorm, for BatchNorm's gradient, and
    what comes after its ReLU, for the next layer's. Here both are computed again when their
    gradient is wanted, BatchNorm by the μ and σ² that are known: one pass over memory.

    Args:
        inputs: float [N, H, W, C].
        before: Gives BatchNorm's input: the identity, or a convolution as cheap as that of an
            image of one channel.
        norm: BatchNorm, at the statistics of the batch.
        after: The layer that takes the ReLU: a convolution or a pool.

    Returns:
        What `after` gives.
    """

    @tf.custom_gradient
    def recomputing(inputs, gamma, beta):
        op = {"scale": gamma, "offset": beta, "epsilon": norm.epsilon}
        x = before(inputs)
        y, mean, variance, *saved = tf.raw_ops.FusedBatchNormV3(x=x, mean=[], variance=[], **op)
        variance = norm.biased(variance, x)

        def gradient(d_out, _mean, _variance, variables=()):
            with tf.control_dependencies([d_out]):  # not sooner
                again = tf.identity(inputs)
            with tf.GradientTape() as tape:
                tape.watch(again)
                x = before(again)
            y = tf.raw_ops.FusedBatchNormV3(
                x=x, mean=mean, variance=variance, is_training=False, **op
            ).y
            with tf.GradientTape() as tape_after:
                tape_after.watch(y)
                out = after(tf.nn.relu(y))
            d_y, d_after = tape_after.gradient(out, (y, list(variables)), d_out)
            with tf.control_dependencies([d for d in d_after if d is not None]):
                d_y = tf.identity(d_y)  # y and d_out are free before what follows is computed
            d_x, d_gamma, d_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=d_y,
                x=x,
                scale=gamma,
                epsilon=norm.epsilon,
                **{f"reserve_space_{k}": space for k, space in enumerate(saved, start=1)},
            )
            d_inputs, d_before = tape.gradient(x, (again, list(variables)), d_x)
            d_variables = [b if a is None else a for a, b in zip(d_after, d_before, strict=True)]
            return (d_inputs, d_gamma, d_beta), d_variables

        return (after(tf.nn.relu(y)), mean, variance), gradient

    out, mean, variance = recomputing(inputs, norm.gamma.value, norm.beta.value)
    norm.move(mean, variance)
    return out
