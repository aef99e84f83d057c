"""Training of a head on given datasets (Appendix A.2)."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.models.classifier import Classifier
from tf_dicom_ce.models.encoder import POLICIES
from tf_dicom_ce.models.losses import soft_dice_loss, weighted_bce
from tf_dicom_ce.models.outputs import (
    categorical_outputs,
    ordinal_codes,
    ordinal_outputs,
    segmentation_outputs,
)
from tf_dicom_ce.models.unet import UNet
from tf_dicom_ce.training.adam import FusedAdam
from tf_dicom_ce.training.fitting import Watch, fit_and_keep_best
from tf_dicom_ce.training.loop import Data, Schedule
from tf_dicom_ce.training.tensorboard import Draw


@dataclass(frozen=True)
class Head:
    """A model for a task, its loss, and how its logits become answers.

    Attributes:
        model: From z-scored images to logits.
        loss: (targets, logits) -> loss.
        answer: Logits -> named answers.
        metric: Name, and (targets, logits) -> values to average; for watching only.
    """

    model: keras.Model
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    answer: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    metric: tuple[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]


def build_head(config: FinetuneConfig, encoder: keras.Layer, classes: int) -> Head:
    """Puts the task's head on an encoder and creates all variables.

    Keras hands targets to a loss as floats, and with one logit as [N, 1]: mended here.

    Args:
        config: Settings.
        encoder: Layer from z-scored images to the five scales.
        classes: Number of classes; in segmentation with background.
    """
    policy = POLICIES[config.precision]
    if config.task == "segmentation":

        def dice(masks, z):
            certain = 50.0 * tf.one_hot(tf.argmax(z, axis=-1), classes)
            return 1.0 - soft_dice_loss(tf.cast(masks, tf.int32), certain)

        head = Head(
            UNet(encoder, classes, config.width, policy),
            lambda masks, z: soft_dice_loss(tf.cast(masks, tf.int32), z),
            segmentation_outputs,
            ("dice", dice),
        )
    elif config.label_encoding == "ordinal":
        head = Head(
            Classifier(encoder, classes - 1, config.width, config.dropout, policy),
            lambda labels, z: weighted_bce(
                ordinal_codes(tf.reshape(labels, [-1]), classes), z, config.positive_weight
            ),
            ordinal_outputs,
            _accuracy(ordinal_outputs),
        )
    else:
        head = Head(
            Classifier(encoder, classes, config.width, config.dropout, policy),
            lambda labels, z: tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.cast(labels, tf.int32), z
            ),
            categorical_outputs,
            _accuracy(categorical_outputs),
        )
    head.model(tf.zeros((1, *config.image_size, 1)))
    return head


def in_float32(config: FinetuneConfig, head: Head, encoder: keras.Layer, classes: int) -> Head:
    """A head that computes in float32, with the same weights: what is measured and exported.

    Args:
        config: Settings of `head`.
        head: Trained.
        encoder: One like that of `head`, in float32.
        classes: As of `head`.
    """
    copy = build_head(dataclasses.replace(config, precision="float32"), encoder, classes)
    copy.model.set_weights(head.model.get_weights())
    return copy


def _accuracy(answer):
    """The metric `accuracy` of a classifier with these answers."""

    def accuracy(labels, z):
        labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
        return tf.cast(answer(z)["class_id"] == labels, tf.float32)

    return "accuracy", accuracy


def finetune(
    config: FinetuneConfig,
    head: Head,
    data: Data,
    schedule: Schedule,
    draw: Draw,
    configuration: Mapping,
    run: Path,
) -> int:
    """Trains a head and leaves it with the weights of the lowest validation loss.

    Args:
        config: Settings.
        head: What `build_head` gave.
        data: Batches (x, target).
        schedule: How long, and how often it is saved.
        draw: Draws predictions for TensorBoard.
        configuration: Settings and provenance, to be shown.
        run: See `fit_and_keep_best`.

    Returns:
        The epoch that was kept, from 1.
    """
    name, function = head.metric
    optimizer = FusedAdam(config.learning_rate, name="adam")
    if config.precision == "float16":  # whose small gradients would be 0
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    head.model.compile(
        optimizer,
        head.loss,
        metrics=[keras.metrics.MeanMetricWrapper(function, name)],
        jit_compile=False,
    )
    # Before anything can be restored, everything has to be there.
    head.model.optimizer.build(head.model.trainable_variables)
    head.model.test_on_batch(*next(iter(data.validation)))
    watch = Watch(
        monitor="val_loss",
        scalars={"loss": "loss/loss", name: f"metric/{name}"},
        optimizers={"head": "optimizer"},
        pictures={"predictions": draw},
        pictures_every=config.panel_every,
        shown=("loss", name),
        configuration=configuration,
    )
    strategy = tf.distribute.get_strategy()  # a head is small: one device
    return fit_and_keep_best(head.model, data, schedule, watch, run, strategy)


def predict(head: Head, images: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Yields the answer to every image of batches (x, …), a classifier's `logits` with it."""

    @tf.function(input_signature=[images.element_spec[0]], autograph=False)
    def step(x):
        logits = head.model(x, training=False)
        return head.answer(logits) | ({"logits": logits} if len(logits.shape) == 2 else {})

    for x, *_ in images:
        answers = {name: values.numpy() for name, values in step(x).items()}
        yield from ({name: answers[name][k] for name in answers} for k in range(len(x)))
