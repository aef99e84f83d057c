"""Writes a run for TensorBoard: scalars, pictures, configuration, HParams, the projector."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams_api

from tf_dicom_ce.training.panels import gray
from tf_dicom_ce.training.sentinel import spans_of

_THUMBNAIL = (48, 32)  # width and height; a sprite of 1,000 is at most 1,536 wide, 1,024 high
#: Draws a picture of a model, uint8 [H, W, 3].
Draw = Callable[[keras.Model], np.ndarray]


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars of both sides in named groups, learning rates, pictures of fixed images.

    Args:
        run: The run's folder. Events go to `tensorboard/` in it, the first picture to `panels/`.
        scalars: Metric -> name in TensorBoard, "group/name".
        optimizers: Name -> attribute of the model that holds the optimizer.
        pictures: Name -> function that draws the picture.
        pictures_every: Epochs between two drawings; the first and last epoch always have them.
        configuration: Shown as a table in the text "run/configuration".
        histograms: Also write the distribution of every weight whenever pictures are drawn.

    Attributes:
        validation: The writer of the validation side, open until training ends.
    """

    def __init__(
        self,
        run: Path,
        scalars: Mapping[str, str],
        optimizers: Mapping[str, str],
        pictures: Mapping[str, Draw],
        pictures_every: int,
        configuration: Mapping,
        histograms: bool = False,
    ):
        super().__init__()
        self._train, self.validation = (
            tf.summary.create_file_writer(str(run / "tensorboard" / side))
            for side in ("train", "validation")
        )
        self._scalars, self._optimizers = scalars, optimizers
        self._pictures, self._pictures_every = pictures, pictures_every
        self._panels = run / "panels"
        self._configuration, self._histograms = configuration, histograms
        self._panels.mkdir(parents=True, exist_ok=True)

    def on_train_begin(self, logs=None):
        with self._train.as_default(step=0):
            tf.summary.text("run/configuration", markdown_table(self._configuration))

    def on_epoch_end(self, epoch, logs=None):
        epoch += 1
        for writer, prefix in ((self._train, ""), (self.validation, "val_")):
            with writer.as_default(step=epoch):
                for metric, name in self._scalars.items():
                    if prefix + metric in logs:
                        tf.summary.scalar(name, logs[prefix + metric])
        with self._train.as_default(step=epoch):
            for name, attribute in self._optimizers.items():
                rate = getattr(self.model, attribute).learning_rate
                tf.summary.scalar(f"learning rate/{name}", rate)
        if epoch == 1 or epoch % self._pictures_every == 0 or epoch == self.params["epochs"]:
            self._draw(epoch)
        self._train.flush()
        self.validation.flush()

    def on_train_end(self, logs=None):
        self._train.close()
        self.validation.close()

    def _draw(self, epoch):
        with self.validation.as_default(step=epoch):
            for k, (name, draw) in enumerate(self._pictures.items()):
                picture = draw(self.model)
                tf.summary.image(name, picture[np.newaxis])
                if k == 0:
                    Image.fromarray(picture).save(self._panels / f"epoch_{epoch:04d}.png")
        if self._histograms:
            with self._train.as_default(step=epoch):
                for weight in self.model.trainable_variables:
                    tf.summary.histogram(f"weights/{weight.path}", weight)


def markdown_table(content: Mapping) -> str:
    """A Markdown table of names and values; a nested mapping becomes "outer / inner" rows."""
    rows = [f"| {name} | {_cell(value)} |" for name, value in _flat(content)]
    return "\n".join(["| | |", "| :--- | :--- |", *rows])


def write_hparams(run: Path, settings: Mapping, metrics: Mapping[str, float], epoch: int) -> None:
    """Writes settings and final metrics, which TensorBoard compares over all runs of a folder.

    Events go to `tensorboard/final` in the run's folder, whose name is the "Trial ID". No
    experiment summary is written, so that TensorBoard gathers names and values from every run. It
    would apply the summary of one run to all, and hide values that only other runs have.
    """
    writer = tf.summary.create_file_writer(str(run / "tensorboard" / "final"))
    with writer.as_default(step=epoch):
        hparams_api.hparams({k: _hparam(v) for k, v in settings.items()}, trial_id=run.name)
        for metric, value in metrics.items():
            tf.summary.scalar(f"final/{metric}", value)
    writer.close()


def _hparam(value):
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _flat(content: Mapping, outer: str = ""):
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{outer}{name} / ")
        else:
            yield outer + name, value


def _cell(value) -> str:
    return str(_hparam(value)).replace("|", "\\|").replace("\n", " ")


def encoder_features(encoder, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Features and thumbnails of the images x, z-scored [N, H, W, 1], in batches (x, …).

    Returns:
        Features: the mean of P5 over its pixels, float32 [N, F]. Thumbnails: gray levels, uint8 [N,
            32, 48].
    """

    @tf.function(input_signature=[batches.element_spec[0]], autograph=False)
    def average(x):
        return tf.reduce_mean(tf.cast(encoder(x, training=False)["P5"], tf.float32), axis=(1, 2))

    features, thumbnails = [], []
    for x, *_ in batches:
        features.append(average(x).numpy())
        thumbnails += [
            np.asarray(Image.fromarray(image).resize(_THUMBNAIL, Image.Resampling.BOX))
            for image in gray(x)
        ]
    return np.concatenate(features), np.stack(thumbnails)


def label_names(y: np.ndarray, tags: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each tag, the names of every image's labels in y [N, L], or "-" if there are none."""
    return {
        tag: [", ".join(itertools.compress(tags[tag], row)) or "-" for row in y[:, start:stop]]
        for tag, start, stop in spans_of(tags)
    }


def write_projector(
    folder: Path,
    features: np.ndarray,
    rows: Sequence[int],
    labels: dict[str, list[str]],
    thumbnails: np.ndarray,
) -> None:
    """Writes features, metadata and a sprite for the projector, and its configuration.

    Features and thumbnails are those of `encoder_features`, labels those of `label_names`. `rows`
    are the images' numbers in files.csv; nothing else identifies them. TensorBoard finds the
    configuration only in a folder with events.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "features.tsv", features, fmt="%.6g", delimiter="\t")
    heading = [("row", *labels)] if labels else []  # the projector wants none for one column
    lines = [*heading, *zip(map(str, rows), *labels.values(), strict=True)]
    (folder / "labels.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    count, height, width = thumbnails.shape
    side = math.ceil(math.sqrt(count))  # the projector cuts a square grid
    grid = np.zeros((side * side, height, width), np.uint8)
    grid[:count] = thumbnails
    rows_of_images = grid.reshape(side, side, height, width).swapaxes(1, 2)
    Image.fromarray(rows_of_images.reshape(side * height, -1)).save(folder / "sprite.png")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "encoder features (mean of P5)"
    embedding.tensor_shape.extend(features.shape)
    embedding.tensor_path = "features.tsv"
    embedding.metadata_path = "labels.tsv"
    embedding.sprite.image_path = "sprite.png"
    embedding.sprite.single_image_dim.extend((width, height))
    projector.visualize_embeddings(str(folder), config)
