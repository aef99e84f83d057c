"""Distillation: the encoder learns the features of a teacher, a network trained on more data."""

from collections.abc import Iterable

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.measured import MeasuredModel

#: The scales that the encoder learns, of stride 4 to 32.
LEARNT = ("P2", "P3", "P4", "P5")


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Distiller(MeasuredModel):
    """Brings the encoder's scales P_k, through 1×1 convolutions Q_k, near the teacher's T_k.

        L_teacher = ¼ Σ_k mean (Q_k P_k − (T_k − μ_k) / σ_k)²,   k = 2…5

    The mean is over positions and channels. μ_k and σ_k are the mean and standard deviation of each
    of the teacher's channels over the images given to `standardise`. The encoder sees whole images
    and needs no tags. An encoder that has learned nothing has a loss of 1.

    Logged per step: `teacher` and `g_norm`, and `joint`, which equals `teacher`. Batches and
    encoder are as in `ContextEncoderGAN`.

    Args:
        encoder: Any Keras model from images to a dict with `P2`…`P5`.
        teacher: Another such model, which is not trained.
    """

    def __init__(self, encoder: keras.Model, teacher: keras.Layer, name: str = "distiller"):
        super().__init__(("joint", "teacher"), ("g",), 0, name)
        self.encoder, self.teacher = encoder, teacher
        teacher.trainable = False
        self.projections, self.means, self.deviations = {}, {}, {}

    def build(self, input_shape):
        self.build_parts({self.encoder: input_shape, self.teacher: input_shape})
        image = keras.KerasTensor(input_shape)
        ours, theirs = self.encoder(image), self.teacher(image)
        for k in LEARNT:
            count = theirs[k].shape[-1]
            self.projections[k] = layers.Conv2D(count, 1, name=f"q{k[1]}", dtype="float32")
            self.projections[k].build(ours[k].shape)
            like = {"shape": (count,), "trainable": False}
            self.means[k] = self.add_weight(name=f"mean_{k}", initializer="zeros", **like)
            self.deviations[k] = self.add_weight(name=f"sd_{k}", initializer="ones", **like)

    def standardise(self, batches: Iterable[tf.Tensor]) -> None:
        """Computes μ_k and σ_k from images, float [N, H, W, 1], z-scored."""
        sums = {k: [0.0, 0.0, 0.0] for k in LEARNT}
        for x in batches:
            for k, t in self.taught(x).items():
                t = tf.cast(tf.reshape(t, (-1, t.shape[-1])), tf.float64)
                parts = (float(len(t)), tf.reduce_sum(t, 0), tf.reduce_sum(tf.square(t), 0))
                sums[k] = [a + b for a, b in zip(sums[k], parts, strict=True)]
        for k, (count, total, square) in sums.items():
            mean = total / count
            self.means[k].assign(mean)
            self.deviations[k].assign(tf.sqrt(tf.maximum(square / count - mean**2, 1e-12)))

    def taught(self, x) -> dict:
        """The teacher's scales for images x."""
        scales = self.teacher(x, training=False)
        return {k: tf.cast(scales[k], tf.float32) for k in LEARNT}

    def variables_of(self, side):
        projections = [v for q in self.projections.values() for v in q.trainable_variables]
        return [*self.encoder.trainable_variables, *projections]

    def call(self, x, training=False):
        """The encoder's scales after the convolutions Q_k, by name."""
        scales = self.encoder(x, training=training)
        return {k: self.projections[k](tf.cast(scales[k], tf.float32)) for k in LEARNT}

    def step(self, x, y, known):
        with tf.GradientTape() as tape:
            values, _ = self.measure(x, y, known, training=True)
            loss = self.g_optimizer.scale_loss(self.mean(values["joint"]))
        return self.log(values) | self.update("g", tape.gradient(loss, self.variables_of("g")))

    def measure(self, x, y, known, training):
        taught, seen = self.taught(x), self(x, training=training)
        errors = {k: seen[k] - (taught[k] - self.means[k]) / self.deviations[k] for k in LEARNT}
        losses = [tf.reduce_mean(tf.square(errors[k]), axis=[1, 2, 3]) for k in LEARNT]
        loss = tf.add_n(losses) / len(LEARNT)
        return {"joint": loss, "teacher": loss}, {}
