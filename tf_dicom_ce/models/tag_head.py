"""A linear head that predicts the tags from the encoder's last scale."""

import keras
from keras import layers


class TagHead(keras.Model):
    """z = W average(P5) + b, the logits of y; float32 under every policy of the encoder.

    Args:
        labels: Length L of y.

    Call:
        p5: float [N, h, w, C], the encoder's `P5`.

    Returns:
        Logits, float32 [N, L].
    """

    def __init__(self, labels: int):
        super().__init__(name="tag_head")
        self.average = layers.GlobalAveragePooling2D(name="average", dtype="float32")
        self.logits = layers.Dense(labels, name="logits", dtype="float32")

    def build(self, input_shape):
        """Creates W and b."""
        self.logits.build((None, input_shape[-1]))

    def call(self, p5):
        return self.logits(self.average(p5))
