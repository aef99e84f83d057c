"""The encoder's features of many images for TensorBoard's embedding projector."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins import projector

from tf_dicom_ce.training.panels import gray

_THUMBNAIL = (48, 32)  # width and height; a sprite of 1,000 is at most 1,536 wide, 1,024 high


def encoder_features(encoder, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Features and thumbnails of the images x, z-scored [N, H, W, 1], in batches (x, …).

    Returns:
        The mean of P5 over its pixels, float32 [N, F]; gray levels, uint8 [N, 32, 48].
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
    """For each tag the names of every image's labels in y [N, L], "-" where it has none."""
    names, start = {}, 0
    for tag, labels in tags.items():
        span = y[:, start : start + len(labels)]
        names[tag] = [", ".join(itertools.compress(labels, row)) or "-" for row in span]
        start += len(labels)
    return names


def write_projector(
    folder: Path,
    features: np.ndarray,
    rows: Sequence[int],
    labels: dict[str, list[str]],
    thumbnails: np.ndarray,
) -> None:
    """Writes features, metadata and a sprite, and the configuration that joins them.

    Args:
        folder: A folder in which TensorBoard finds events, else it does not look for this.
        features: float [N, F], see `encoder_features`.
        rows: Number of each image in files.csv; nothing else tells which it is.
        labels: Tag -> names of N images' labels, see `label_names`.
        thumbnails: Gray levels, uint8 [N, h, w].
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "features.tsv", features, fmt="%.6g", delimiter="\t")
    heading = [("row", *labels)] if labels else []  # of one column the projector wants none
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
