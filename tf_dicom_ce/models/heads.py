"""The heads on an encoder: classification and segmentation (section 4.2, Appendix A.2)."""

import keras
import tensorflow as tf
from keras import layers

from tf_dicom_ce.models.conv_bn_relu import ConvBNReLU
from tf_dicom_ce.models.encoder import SCALES, Exportable, channels
from tf_dicom_ce.models.losses import soft_dice_loss, weighted_bce

HEAD_CHANNELS = 256
UP_CHANNELS = (256, 128, 64, 32, 16)


class Head(Exportable):
    """A network on an encoder: a Keras `Model` with a default loss and named answers.

    A call gives logits; `predict` gives the answers by name. `compile` defaults to the paper's loss
    and a metric to watch. `export` writes the SavedModel of export/README.md. Set `familiarity` to
    a `Familiarity` to export its answer, too. A subclass has `task`, `reads` (the scales that a
    call reads), `default_loss`, `default_metric` and `answer`.

    Args:
        encoder: Any Keras model or layer from z-scored images, float [N, H, W, 1], to the dict of
            scales `P1`…`P5` of stride 2…32. With `trainable` False it is frozen.
        classes: Number of classes.
        temperature: Of a classifier: divides the logits before they become probabilities.
        width_multiplier: Multiplies the head's channel counts, not the encoder's.
        dtype: Keras' dtype policy of the head; its logits are float32 under every policy.
    """

    def __init__(self, encoder, classes, width_multiplier, dtype, name, temperature=1.0, **kwargs):
        # The layers cast their own inputs; the image itself has to stay as it is.
        super().__init__(name=name, dtype=dtype, autocast=False, **kwargs)
        self.encoder = encoder
        self.classes = classes
        self.width_multiplier = width_multiplier
        self.temperature = temperature

    def build(self, input_shape):
        self.compute_output_spec(keras.KerasTensor(input_shape))

    def see(self, x, training=False):
        """The scales of images x, and x itself as `image`.

        If x is already such a dict, returns x: the scales of a frozen encoder may be computed once.
        """
        return x if isinstance(x, dict) else {**self.encoder(x, training=training), "image": x}

    def compile(self, optimizer="adam", loss=None, *, metrics=None, **kwargs):
        """Compiles as Keras does; None stands for `default_loss` and `default_metric`."""
        loss = self.default_loss() if loss is None else loss
        metrics = [self.default_metric()] if metrics is None else metrics
        super().compile(optimizer, loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        """Compiles a loaded model as Keras does; Keras skips this if `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the loss as Keras does; under tf.distribute over the whole batch, for soft Dice.

        Every replica gathers the outputs of all replicas. Keras divides the loss by the number of
        replicas, so the sum of the gradients equals the gradient on one device.
        """
        replicas = tf.distribute.get_replica_context()
        if training and replicas and replicas.num_replicas_in_sync > 1:

            def whole(part):
                if part is None:
                    return None
                # TensorFlow gathers neither bytes nor tensors without a device, such as those of a
                # dataset. A gathered tensor has lost its shape.
                part = tf.identity(part if part.dtype.is_floating else tf.cast(part, tf.int32))
                gathered = replicas.all_gather(part, axis=0)
                return tf.ensure_shape(gathered, (None, *part.shape[1:]))

            y, y_pred, sample_weight = whole(y), whole(y_pred), whole(sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def predict_step(self, data):
        """Answers to a batch (x, …) or x."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.answer(self(x, training=False))

    def description(self):
        found = {"classes": [str(k) for k in range(self.classes)]}
        return found | ({"familiarity": self.familiarity.description()} if self.familiarity else {})

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "classes": self.classes,
            "width_multiplier": self.width_multiplier,
            "temperature": self.temperature,
        }

    @classmethod
    def from_config(cls, config):
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**{**config, "encoder": encoder})


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Classifier(Head):
    """Encoder, 1×1 convolution with ReLU, dropout, global average, dense layer; see `Head`.

    Args:
        encoder: A model from z-scored images to the dict of scales; the head reads `P5`.
        classes: Number of classes K.
        ordinal: Whether the classes are ordered. The logits are then those of the ordinal codes.
        width_multiplier: Multiplies the channels of the 1×1 convolution.
        dropout: Dropout rate, 0…1.
        positive_weight: That of `OrdinalLoss`.
        dtype: Keras' dtype policy of the 1×1 convolution.

    Call:
        x: float [N, H, W, 1], z-scored.

    Returns:
        Logits, float32 [N, K − 1], or [N, K] for nominal classes. Targets are classes 0…K−1,
        integer [N]. The loss is `OrdinalLoss` or the cross-entropy, the metric `accuracy`.
        `predict` gives `probabilities` and `class_id`.
    """

    task = "classification"
    reads = ("P5",)

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
        self.ordinal, self.dropout, self.positive_weight = ordinal, dropout, positive_weight
        filters, policy = channels(HEAD_CHANNELS, width_multiplier), self.dtype_policy
        outputs = classes - 1 if ordinal else classes
        self.head = keras.Sequential(
            [
                layers.Conv2D(filters, 1, activation="relu", name="conv", dtype=policy),
                Dropout(dropout, name="dropout"),
                layers.GlobalAveragePooling2D(name="average", dtype="float32"),
                layers.Dense(outputs, name="logits", dtype="float32"),
            ],
            name="head",
        )

    def call(self, x, training=False):
        return self.head(self.see(x, training)["P5"], training=training)

    def answer(self, logits):
        outputs = ordinal_outputs if self.ordinal else nominal_outputs
        return outputs(logits / self.temperature)

    def default_loss(self):
        """Weighted binary cross-entropy on ordinal codes, or cross-entropy for nominal classes."""
        if self.ordinal:
            return OrdinalLoss(self.positive_weight)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metric(self):
        """The share of images whose predicted class is right."""
        if self.ordinal:
            return keras.metrics.MeanMetricWrapper(ordinal_accuracy, "accuracy")
        return keras.metrics.SparseCategoricalAccuracy("accuracy")

    def get_config(self):
        own = ("ordinal", "dropout", "positive_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


class Dropout(keras.layers.Layer):
    """Keras' dropout with a seed variable named after the layer.

    Keras numbers that variable by creation order, but checkpoints need a stable name. Checkpoints
    hold the seed; a `.keras` file and BackupAndRestore do not, and restart its sequence.
    """

    def __init__(self, rate: float, name: str):
        super().__init__(name=name, dtype="float32")
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=name)

    def call(self, x, training=False):
        return keras.random.dropout(x, self.rate, seed=self.seed_generator) if training else x


@keras.saving.register_keras_serializable("tf_dicom_ce")
class OrdinalLoss(keras.losses.Loss):
    """`weighted_bce` on the ordinal codes of classes 0…K−1, any dtype [N] or [N, 1]."""

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
    """1 where the class decoded from the logits [N, K − 1] is the label, else 0; float32 [N]."""
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    return tf.cast(ordinal_outputs(logits)["class_id"] == labels, tf.float32)


def ordinal_codes(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Class k of K as k ones and K − 1 − k zeros (Appendix A.2.1): 2 of 5 is [1, 1, 0, 0].

    Labels are integer [N], codes float32 [N, K − 1].
    """
    return tf.cast(tf.range(classes - 1) < tf.cast(labels, tf.int32)[:, tf.newaxis], tf.float32)


def ordinal_outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Turns logits z [N, K − 1] into the answers of an ordinal classifier.

    The class is the number of thresholds passed, σ(z) > ½. P(k) = P(pass k) − P(pass k + 1). P(pass
    k) is the running minimum of σ(z), so that no difference is negative where the outputs
    contradict each other. `probabilities` are float32 [N, K] with rows that sum to 1; `class_id` is
    int32 [N].
    """
    class_id = tf.reduce_sum(tf.cast(logits > 0.0, tf.int32), axis=-1)
    passed = [tf.ones_like(logits[:, 0])]
    for z in tf.unstack(logits, axis=-1):
        passed.append(tf.minimum(passed[-1], tf.sigmoid(z)))
    passed = tf.stack([*passed, tf.zeros_like(passed[0])], axis=-1)
    return {"probabilities": passed[:, :-1] - passed[:, 1:], "class_id": class_id}


def nominal_outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Turns logits [N, K] of nominal classes into `probabilities` and `class_id` int32 [N]."""
    class_id = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return {"probabilities": tf.nn.softmax(logits), "class_id": class_id}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class UNet(Head):
    """The U-Net (Ronneberger et al., 2015): five up-convolutional blocks with skip connections.

    A block doubles the resolution by a 3×3 up-convolution, concatenates the encoder's scale of that
    resolution (P4, P3, P2, P1 or, at full resolution, the image itself) and applies a 3×3
    convolution. BatchNorm and ReLU follow both convolutions. A 1×1 convolution gives the logits.
    See `Head` for its use.

    Args:
        encoder: A model from z-scored images to the dict of scales.
        classes: Number of classes, background included.
        width_multiplier: Multiplies the channels of the blocks.
        dtype: Keras' dtype policy of the blocks.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        Logits, float32 [N, H, W, classes]. Targets are masks, integer [N, H, W]; 0 is background.
        The loss is soft Dice (Appendix A.2.2), the metric `dice`. `predict` gives `probabilities`
        and `mask`.
    """

    task = "segmentation"
    reads = SCALES

    def __init__(
        self,
        encoder: keras.Layer,
        classes: int,
        width_multiplier: float = 1.0,
        dtype=None,
        name: str = "unet",
        **kwargs,
    ):
        super().__init__(encoder, classes, width_multiplier, dtype, name, **kwargs)
        self.ups, self.joins = [], []
        for k, count in enumerate(UP_CHANNELS, start=1):
            count = channels(count, width_multiplier)
            like = {"filters": count, "dtype": self.dtype_policy}
            self.ups.append(ConvBNReLU(**like, strides=2, transpose=True, name=f"up{k}"))
            self.joins.append(ConvBNReLU(**like, name=f"join{k}"))
        self.logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")

    def call(self, x, training=False):
        scales = self.see(x, training)
        skips = (scales[name] for name in ("P4", "P3", "P2", "P1", "image"))
        h = scales["P5"]
        for up, join, skip in zip(self.ups, self.joins, skips, strict=True):
            h = up(h, training=training)
            h = join(keras.ops.concatenate([h, skip], axis=-1), training=training)
        return self.logits(h)

    def answer(self, logits):
        return segmentation_outputs(logits)

    def default_loss(self):
        return soft_dice

    def default_metric(self):
        """The mean over batches of `dice`."""
        return keras.metrics.MeanMetricWrapper(dice, "dice")


@keras.saving.register_keras_serializable("tf_dicom_ce")
def soft_dice(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`soft_dice_loss` of masks in floats, as Keras passes them to a loss; float32 [1].

    The shape is [1] because Keras would not divide a scalar by the number of replicas.
    """
    return soft_dice_loss(tf.cast(masks, tf.int32), logits)[tf.newaxis]


@keras.saving.register_keras_serializable("tf_dicom_ce")
def dice(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Dice of the likeliest classes of a batch, 0…1, as in `soft_dice_loss` with hard classes."""
    certain = 50.0 * tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
    return 1.0 - soft_dice(masks, certain)


def segmentation_outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """A U-Net's answers: `probabilities` float32 [N, H, W, C] and `mask`, uint8, the likeliest."""
    mask = tf.cast(tf.argmax(logits, axis=-1), tf.uint8)
    return {"probabilities": tf.nn.softmax(logits), "mask": mask}
