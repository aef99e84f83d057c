"""The inpainting panel: what F was given, what it painted, what was there."""

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from tf_dicom_ce.data.preprocessing import mask_centre

_TITLES = ("input with hole", "prediction in place", "truth")
_RANGE = 2.5  # standard deviations either side of the mean that are shown as black and white
_GAP = 4
_LEAST_WIDTH = 192  # narrower images are enlarged by a whole number, to be seen
_HEADER = 16


def inpainting_panel(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """A row an image: input with hole, prediction in place, truth.

    Args:
        model: A `ContextEncoderGAN`.
        images: z-scored, float [N, H, W, 1].

    Returns:
        uint8 [height, width, 3] with a title above each column.
    """
    zoom = -(-_LEAST_WIDTH // images.shape[2])
    columns = [
        gray(column).repeat(zoom, axis=1).repeat(zoom, axis=2)
        for column in (mask_centre(images), model(images), images)
    ]
    count, height, width = columns[0].shape
    panel = Image.new(
        "RGB",
        (3 * width + 2 * _GAP, _HEADER + count * (height + _GAP) - _GAP),
        (24, 24, 28),
    )
    draw = ImageDraw.Draw(panel)
    for i, (title, column) in enumerate(zip(_TITLES, columns, strict=True)):
        left = i * (width + _GAP)
        draw.text((left + 2, 2), title, fill=(230, 230, 230))
        for j, image in enumerate(column):
            panel.paste(Image.fromarray(image), (left, _HEADER + j * (height + _GAP)))
    return np.asarray(panel)


def gray(images: np.ndarray) -> np.ndarray:
    """z-scores, float [N, H, W, 1], to gray levels, uint8 [N, H, W]."""
    images = (tf.squeeze(images, axis=-1) / _RANGE + 1.0) * 127.5
    return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8).numpy()
