"""Adam by TensorFlow's fused op."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_dicom_ce")
class FusedAdam(keras.optimizers.Adam):
    """Adam with β₁ = 0.9 and β₂ = 0.999 (section 4.3), one op for each variable.

    θ ← θ − α_t m / (√v + ε),  α_t = η √(1 − β₂ᵗ) / (1 − β₁ᵗ), as in Keras' Adam. Keras takes a
    dozen element-wise ops per variable; the fused op saves some 1,300 ops per pretraining step.
    """

    def apply(self, grads, trainable_variables=None):
        """Updates all variables; β₁ᵗ and β₂ᵗ are computed once for all of them."""
        step = tf.cast(self.iterations.value + 1, tf.float32)
        self._powers = self.beta_1**step, self.beta_2**step
        return super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one `tf.Variable`; under tf.distribute the variable of one replica."""
        index = self._get_variable_index(variable)
        beta1_power, beta2_power = self._powers
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
