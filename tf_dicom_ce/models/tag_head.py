"""A linear head that predicts the tags from the encoder's last scale."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.losses import tag_loss


@keras.saving.register_keras_serializable("tf_dicom_ce")
class TagHead(keras.Model):
    """z = W average(P5) + b, the logits of y; float32 under every policy of the encoder.

    Args:
        labels: Length L of y.
        name: Of the model.

    Call:
        p5: float [N, h, w, C], the encoder's `P5`.

    Returns:
        Logits, float32 [N, L].
    """

    def __init__(self, labels: int, name: str = "tag_head"):
        super().__init__(name=name, dtype="float32")
        self.labels = labels
        self.average = layers.GlobalAveragePooling2D(name="average", dtype="float32")
        self.logits = layers.Dense(labels, name="logits", dtype="float32")

    def build(self, input_shape):
        """Creates W and b."""
        self.logits.build((None, input_shape[-1]))

    def call(self, p5):
        return self.logits(self.average(p5))

    def measure(self, p5, y, known) -> tuple[dict, dict]:
        """L_tags, `tags`, float32 [N], and which labels are predicted, `tags_accuracy`, [N, L].

        The latter with its weight: the labels of known tags count.
        """
        logits = self(p5)
        right = tf.cast((logits > 0) == (y > 0), tf.float32)
        return {"tags": tag_loss(y, known, logits), "tags_accuracy": right}, {
            "tags_accuracy": known
        }

    def get_config(self):
        return {"labels": self.labels, "name": self.name}
