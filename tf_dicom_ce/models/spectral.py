"""Spectral normalisation of weights (Miyato et al., 2018), functional.

`keras.layers.SpectralNormalization` does not fit: it writes the divided kernel over the kernel, so
that the gradient misses σ; it iterates at every call, of which D has two a step; and it has no way
to reach W. Here the weights stay as they are, and a pass of D sees W / σ(W).
"""

import tensorflow as tf


def power_iteration(kernel: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """The next estimate of the first right singular vector: u ← MᵀMu / ‖MᵀMu‖.

    Args:
        kernel: Weight, float32 [..., C]; M is its matrix [·, C].
        u: The estimate, float32 [C].

    Returns:
        float32 [C], of length 1.
    """
    matrix = _matrix(kernel)
    v = tf.math.l2_normalize(tf.linalg.matvec(matrix, u))
    return tf.math.l2_normalize(tf.linalg.matvec(matrix, v, transpose_a=True))


def spectrally_normalised(kernel: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """W / σ(W) with σ(W) = vᵀMu and v = Mu / ‖Mu‖; u and v are constants to the gradient.

    Args:
        kernel: Weight W, float32 [..., C].
        u: Right singular vector, float32 [C].

    Returns:
        float32, the shape of `kernel`; its largest singular value is 1 as far as u is right.
    """
    mu = tf.linalg.matvec(_matrix(kernel), u)
    v = tf.stop_gradient(tf.math.l2_normalize(mu))
    return kernel / tf.tensordot(v, mu, 1)


def _matrix(kernel):
    return tf.reshape(kernel, (-1, kernel.shape[-1]))
