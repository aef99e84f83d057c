"""A linear head that predicts the tags from P5, and training by it alone."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.losses import tag_loss
from tf_dicom_ce.models.measured import MeasuredModel


@keras.saving.register_keras_serializable("tf_dicom_ce")
class TagHead(keras.Model):
    """Predicts the logits of y, z = W average(P5) + b, from the encoder's `P5`, float [N, h, w, C].

    The logits are float32 [N, L] under every policy of the encoder; L is `labels`.
    """

    def __init__(self, labels: int, name: str = "tag_head"):
        super().__init__(name=name, dtype="float32")
        self.labels = labels
        self.average = layers.GlobalAveragePooling2D(name="average", dtype="float32")
        self.logits = layers.Dense(labels, name="logits", dtype="float32")

    def build(self, input_shape):
        self.logits.build((None, input_shape[-1]))

    def call(self, p5):
        return self.logits(self.average(p5))

    def measure(self, p5, y, known) -> tuple[dict, dict]:
        """L_tags, `tags`, float32 [N], and whether labels are right, `tags_accuracy`, [N, L].

        The weight of `tags_accuracy` is 1 for the labels of known tags, else 0.
        """
        logits = self(p5)
        right = tf.cast((logits > 0) == (y > 0), tf.float32)
        values = {"tags": tag_loss(y, known, logits), "tags_accuracy": right}
        return values, {"tags_accuracy": known}

    def get_config(self):
        return {"labels": self.labels, "name": self.name}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class TagPredictor(MeasuredModel):
    """An encoder of whole images, without a hole, and a head that predicts their tags.

    Logged per step: `tags`, `tags_accuracy` and `g_norm` as in `ContextEncoderGAN`, and `joint`,
    which is λ_tags L_tags. Batches and encoder are as in `ContextEncoderGAN`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        tag_head: TagHead,
        lambda_tags: float = 1.0,
        name: str = "tag_predictor",
    ):
        measures = ("joint", "tags", "tags_accuracy")
        super().__init__(measures, ("g",), tag_head.labels, name)
        self.encoder, self.tag_head, self.lambda_tags = encoder, tag_head, lambda_tags

    def build(self, input_shape):
        self.build_parts({self.encoder: input_shape})
        p5 = self.encoder(keras.KerasTensor(input_shape))["P5"].shape
        self.build_parts({self.tag_head: p5})

    def variables_of(self, side):
        return [*self.encoder.trainable_variables, *self.tag_head.trainable_variables]

    def call(self, x, training=False):
        """Logits of y, float32 [N, L]."""
        return self.tag_head(self.encoder(x, training=training)["P5"])

    def step(self, x, y, known):
        with tf.GradientTape() as tape:
            values, weights = self.measure(x, y, known, training=True)
            loss = self.g_optimizer.scale_loss(self.mean(values["joint"]))
        gradients = tape.gradient(loss, self.variables_of("g"))
        return self.log(values, weights) | self.update("g", gradients)

    def measure(self, x, y, known, training):
        p5 = self.encoder(x, training=training)["P5"]
        values, weights = self.tag_head.measure(p5, y, known)
        return {"joint": self.lambda_tags * values["tags"], **values}, weights
