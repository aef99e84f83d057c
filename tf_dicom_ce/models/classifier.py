"""The classification head on an encoder (section 4.2, Appendix A.2.1)."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.encoder import channels
from tf_dicom_ce.models.head import Head
from tf_dicom_ce.models.losses import weighted_bce
from tf_dicom_ce.models.outputs import categorical_outputs, ordinal_codes, ordinal_outputs

HEAD_CHANNELS = 256


class Dropout(keras.layers.Layer):
    """Keras' dropout, but its seed's variable has the name of the layer.

    Keras names that variable by how many there were before, and checkpoints need a name that stays.
    (They hold it; a `.keras` file and BackupAndRestore do not, so the masks begin anew there.)

    Args:
        rate: Share of the values that are set to 0 in training, 0…1.
        name: Of the layer.

    Call:
        x: float, any shape.

    Returns:
        The shape and dtype of `x`.
    """

    def __init__(self, rate: float, name: str):
        super().__init__(name=name, dtype="float32")
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=name)

    def call(self, x, training=False):
        return keras.random.dropout(x, self.rate, seed=self.seed_generator) if training else x


@keras.saving.register_keras_serializable("tf_dicom_ce")
class OrdinalLoss(keras.losses.Loss):
    """`weighted_bce` on the ordinal codes of the classes (Appendix A.2.1).

    Args:
        positive_weight: w, the weight of a 1 against a 0.

    Call:
        labels: Classes 0…K−1, any dtype [N] or [N, 1].
        logits: z, float [N, K − 1].
    """

    def __init__(self, positive_weight: float = 2.0, name: str = "ordinal_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.positive_weight = positive_weight

    def call(self, labels, logits):
        codes = ordinal_codes(tf.reshape(labels, [-1]), logits.shape[-1] + 1)
        return weighted_bce(codes, logits, self.positive_weight)

    def get_config(self):
        return {**super().get_config(), "positive_weight": self.positive_weight}


@keras.saving.register_keras_serializable("tf_dicom_ce")
def ordinal_accuracy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 where the class that the logits [N, K − 1] mean is the label, else 0; float32 [N]."""
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    return tf.cast(ordinal_outputs(logits)["class_id"] == labels, tf.float32)


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Classifier(Head):
    """Encoder, 1×1 convolution with ReLU, dropout, global average, dense layer; see `Head`.

    Args:
        encoder: From z-scored images to the dict of scales; its `P5` is used.
        classes: Number of classes K.
        ordinal: Whether they are in an order: then the logits are those of the ordinal codes.
        width_multiplier: Multiplies the channels of the 1×1 convolution.
        dropout: Rate.
        positive_weight: Of `OrdinalLoss`.
        dtype: Keras' dtype policy of the 1×1 convolution.

    Call:
        x: float [N, H, W, 1], z-scored.

    Returns:
        Logits, float32 [N, K − 1], or [N, K] of nominal classes. Targets are classes 0…K−1, integer
        [N]; the loss is `OrdinalLoss` or the cross-entropy, the metric `accuracy`; `predict` gives
        `probabilities` and `class_id`.
    """

    task = "classification"

    def __init__(
        self,
        encoder: keras.Layer,
        classes: int,
        ordinal: bool = True,
        width_multiplier: float = 1.0,
        dropout: float = 0.5,
        positive_weight: float = 2.0,
        dtype=None,
        name: str = "classifier",
        **kwargs,
    ):
        super().__init__(encoder, classes, width_multiplier, dtype, name, **kwargs)
        self.ordinal = ordinal
        self.dropout = dropout
        self.positive_weight = positive_weight
        self.head = keras.Sequential(
            [
                layers.Conv2D(
                    channels(HEAD_CHANNELS, width_multiplier),
                    1,
                    activation="relu",
                    name="conv",
                    dtype=self.dtype_policy,
                ),
                Dropout(dropout, name="dropout"),
                layers.GlobalAveragePooling2D(name="average", dtype="float32"),
                layers.Dense(classes - 1 if ordinal else classes, name="logits", dtype="float32"),
            ],
            name="head",
        )

    def call(self, x, training=False):
        return self.head(self.encoder(x, training=training)["P5"], training=training)

    def answer(self, logits):
        """See `ordinal_outputs` and `categorical_outputs`."""
        return ordinal_outputs(logits) if self.ordinal else categorical_outputs(logits)

    def default_loss(self):
        """Weighted binary cross-entropy on the ordinal codes; of nominal classes cross-entropy."""
        if self.ordinal:
            return OrdinalLoss(self.positive_weight)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metric(self):
        """The share of the images whose class is right."""
        if self.ordinal:
            return keras.metrics.MeanMetricWrapper(ordinal_accuracy, "accuracy")
        return keras.metrics.SparseCategoricalAccuracy("accuracy")

    def get_config(self):
        own = ("ordinal", "dropout", "positive_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
