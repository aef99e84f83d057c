"""Panels of fixed images: what F painted, and what D makes of it under every label."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from tf_dicom_ce.models.patch import centre_patch, mask_centre

_TITLES = ("input with hole", "prediction in place", "truth")
_RANGE = 2.5  # standard deviations either side of the mean that are shown as black and white
_GAP = 4
_LEAST_WIDTH = 192  # narrower images are enlarged by a whole number, to be seen
_HEADER = 16
_GROUND, _TEXT = (24, 24, 28), (230, 230, 230)
_CELL = (72, 30)
_ACROSS = 12  # cells in a line of the sensitivity panel


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
        _GROUND,
    )
    draw = ImageDraw.Draw(panel)
    for i, (title, column) in enumerate(zip(_TITLES, columns, strict=True)):
        left = i * (width + _GAP)
        draw.text((left + 2, 2), title, fill=_TEXT)
        for j, image in enumerate(column):
            panel.paste(Image.fromarray(image), (left, _HEADER + j * (height + _GAP)))
    return np.asarray(panel)


def sensitivity_panel(
    model: keras.Model, images: np.ndarray, y: np.ndarray, tags: Sequence[tuple[str, Sequence[str]]]
) -> np.ndarray:
    """What D makes of each image's true and predicted patch without a tag and under each label.

    Each label stands alone in y (one-hot). A cell holds D's logit and σ(D) in per cent: blue
    where D holds the patch for predicted, orange for true. The image's own labels are framed.

    Args:
        model: A `ContextEncoderGAN` whose D sees y.
        images: z-scored, float32 [N, H, W, 1].
        y: Their tags, float32 [N, L].
        tags: Name and labels of each tag, in the order of y.

    Returns:
        uint8 [height, width, 3].
    """
    names = ["no tag", *(label for _, labels in tags for label in labels)]
    alone = np.eye(len(names), dtype=np.float32)[:, 1:]  # the first row is no tag
    own = np.concatenate([np.zeros((len(y), 1), bool), y > 0], axis=1)
    patches = centre_patch(images), model.paint(images)
    seen = [model.seen_by_d(images, patch) for patch in patches]
    logits = np.stack(
        [
            [model.discriminator(x, np.repeat(row[None], len(x), 0))["logit"] for row in alone]
            for x in seen
        ]
    ).transpose(2, 0, 1)  # [N, true or predicted, labels]
    blocks = [
        _heat_table(image, table, frames, names)
        for image, table, frames in zip(gray(images), logits, own, strict=True)
    ]
    return np.concatenate(blocks)


def _heat_table(image, logits, own, names) -> np.ndarray:
    """An image and its two rows of cells, in as many lines as they need."""
    width, height = _CELL
    lines = -(-len(names) // _ACROSS)
    left = _LEAST_WIDTH + 64
    thumbnail = Image.fromarray(image)
    tall = round(image.shape[0] * _LEAST_WIDTH / image.shape[1])
    line_height = _HEADER + 2 * height + 2 * _GAP
    size = (left + min(len(names), _ACROSS) * width, max(tall + _GAP, lines * line_height))
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(thumbnail.resize((_LEAST_WIDTH, tall)), (0, 0))
    for line in range(lines):
        for k, title in enumerate(("true", "predicted")):
            at = line * line_height + _HEADER + k * height
            draw.text((left - 60, at + height // 2 - 6), title, fill=_TEXT)
    for k, name in enumerate(names):
        x = left + k % _ACROSS * width
        y = k // _ACROSS * line_height
        draw.text((x + 2, y + 2), name[: width // 6], fill=_TEXT)
        for row, logit in enumerate(logits[:, k]):
            top = y + _HEADER + row * height
            sigma = 0.5 + 0.5 * np.tanh(logit / 2)
            draw.rectangle((x, top, x + width - 3, top + height - 3), fill=_colour(sigma))
            draw.text((x + 4, top + 1), f"{logit:+.2f}\n{sigma:4.0%}", fill="black", spacing=1)
        if own[k]:
            box = (x - 2, y, x + width - 1, y + _HEADER + 2 * height - 1)
            draw.rectangle(box, outline=(255, 255, 90), width=2)
    return np.asarray(sheet)


def _colour(sigma: float) -> tuple[int, ...]:
    """Blue at 0, near white at 0.5, orange at 1."""
    end = np.array((90, 140, 255) if sigma < 0.5 else (255, 150, 50))
    share = abs(2 * sigma - 1)
    return tuple(int(c) for c in np.round(share * end + (1 - share) * 240))


def gray(images: np.ndarray) -> np.ndarray:
    """z-scores, float [N, H, W, 1], to gray levels, uint8 [N, H, W]."""
    images = (tf.squeeze(images, axis=-1) / _RANGE + 1.0) * 127.5
    return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8).numpy()
