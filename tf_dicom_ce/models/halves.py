"""A layer over both halves of a batch at once."""

import keras
import tensorflow as tf


def in_halves(layer: keras.Layer, x: tf.Tensor) -> tf.Tensor:
    """layer(x); where an op has one thread, by two ops beside each other, a half of the batch each.

    Forward, an encoder is a chain of ops of which each waits for the one before: with one thread
    an op, one core would work. The gradient is taken of the whole batch, for those of x and of
    the layer's weights run beside each other as they are.

    Args:
        layer: Treats every example alike: a convolution.
        x: float [N, …].

    Returns:
        What `layer` gives.
    """
    one_thread = tf.config.threading.get_intra_op_parallelism_threads() == 1
    if not one_thread or x.shape[0] is None or x.shape[0] % 2:
        return layer(x)

    @tf.custom_gradient
    def both(x):
        def gradient(d_out, variables=()):
            with tf.GradientTape() as tape:
                tape.watch(x)
                out = layer(x)
            return tape.gradient(out, (x, list(variables)), d_out)

        return tf.concat([layer(half) for half in tf.split(x, 2)], 0), gradient

    return both(x)
