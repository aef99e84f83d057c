"""The classification head on an encoder (section 4.2, Appendix A.2.1)."""

import keras
from keras import layers

from tf_dicom_ce.models.encoder import channels

HEAD_CHANNELS = 256


class Dropout(keras.layers.Layer):
    """Keras' dropout, but its seed's variable has the name of the layer.

    Keras names that variable by how many there were before, and checkpoints need a name that stays.

    Args:
        rate: Share of the values that are set to 0 in training, 0…1.
        name: Of the layer.

    Call:
        x: float, any shape.

    Returns:
        The shape and dtype of `x`.
    """

    def __init__(self, rate: float, name: str):
        super().__init__(name=name)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=name)

    def call(self, x, training=False):
        return keras.random.dropout(x, self.rate, seed=self.seed_generator) if training else x


class Classifier(keras.Model):
    """Encoder, 1×1 convolution with ReLU, dropout, global average, dense layer.

    Args:
        encoder: Layer from z-scored images to the dict of scales; its `P5` is used.
        outputs: Number of logits: classes − 1 for ordinal codes, classes for nominal labels.
        width: Multiplies the channels of the 1×1 convolution.
        dropout: Rate.
        policy: Keras' dtype policy of the 1×1 convolution, as in `VGG16Encoder`.

    Call:
        x: float [N, H, W, 1], z-scored.

    Returns:
        Logits, float32 [N, outputs].
    """

    def __init__(
        self,
        encoder: keras.Layer,
        outputs: int,
        width: float = 1.0,
        dropout: float = 0.5,
        policy: str = "float32",
    ):
        super().__init__(name="classifier")
        self.encoder = encoder
        self.head = keras.Sequential(
            [
                layers.Conv2D(
                    channels(HEAD_CHANNELS, width), 1, activation="relu", name="conv", dtype=policy
                ),
                Dropout(dropout, name="dropout"),
                layers.GlobalAveragePooling2D(name="average"),
                layers.Dense(outputs, name="logits"),
            ],
            name="head",
        )

    def call(self, x, training=False):
        return self.head(self.encoder(x, training=training)["P5"], training=training)
