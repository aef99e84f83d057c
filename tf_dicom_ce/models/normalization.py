"""Batch normalisation by TensorFlow's fused op."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_dicom_ce")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """y = γ (x − μ) / √(σ² + ε) + β, in training one pass forward and one back.

    Keras' layer computes the same of some ten element-wise ops, which take a tenth of a training
    step on a CPU. As there, the moving statistics take the batch's biased σ². μ, σ, γ and β are
    float32 under every policy; images of half precision go in and come out without a cast.
    At moving statistics it is Keras' layer: there the fused op is no faster. Momentum and ε are
    those of the VGG16-BN in common use (torchvision).

    Call:
        inputs: float [N, H, W, C], in the policy's compute dtype.

    Returns:
        The shape and dtype of `inputs`.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None):
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon
        )
        self.move(mean, self.biased(variance, inputs))
        return y

    def biased(self, variance, x):
        """σ² of the batch x from the op's, which divides by n − 1."""
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float32)
        return variance * (count - 1.0) / count

    def move(self, mean, variance):
        """The moving statistics go towards μ and σ² of a batch."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
