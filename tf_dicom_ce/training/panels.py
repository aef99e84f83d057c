"""Pictures of fixed images: the patches of F, the logits of D, the predictions of a head."""

import itertools
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from tf_dicom_ce.masks import outline
from tf_dicom_ce.models.gan import centre_patch, mask_centre

_TITLES = ("input with hole", "prediction in place", "truth")
_RANGE = 2.5  # standard deviations either side of the mean that are shown as black and white
_GAP = 4
_LEAST_WIDTH = 192  # pixels; narrower images are enlarged by a whole number
_LEAST_WIDTH_OF_HEADS = 288
_HEADER = 16
_GROUND, _TEXT = (24, 24, 28), (230, 230, 230)
_CELL = (72, 30)
_ACROSS = 12  # cells in a line of the sensitivity panel
_ON_PAGE = 520  # pixels of the longer side


def inpainting_panel(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Draws what a `ContextEncoderGAN` paints, one row per image, z-scored float [N, H, W, 1].

    Returns:
        uint8 [height, width, 3]: input with hole, prediction in place, truth.
    """
    zoom = -(-_LEAST_WIDTH // images.shape[2])
    columns = [
        gray(column).repeat(zoom, axis=1).repeat(zoom, axis=2)
        for column in (mask_centre(images), model(images), images)
    ]
    count, height, width = columns[0].shape
    size = (3 * width + 2 * _GAP, _HEADER + count * (height + _GAP) - _GAP)
    panel = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(panel)
    for i, (title, column) in enumerate(zip(_TITLES, columns, strict=True)):
        left = i * (width + _GAP)
        draw.text((left + 2, 2), title, fill=_TEXT)
        for j, image in enumerate(column):
            panel.paste(Image.fromarray(image), (left, _HEADER + j * (height + _GAP)))
    return np.asarray(panel)


def sensitivity_panel(
    model: keras.Model, images: np.ndarray, y: np.ndarray, tags: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Draws D's answers to each image's true and predicted patch, without a tag and per label.

    Each label is tried alone in y (one-hot). A cell holds D's logit and σ(D) in per cent: blue if D
    takes the patch for predicted, orange if for true. The image's own labels are framed.

    Images are z-scored, float32 [N, H, W, 1]; y is float32 [N, L], in the order of `tags`.
    """
    names = ["no tag", *itertools.chain(*tags.values())]
    alone = np.eye(len(names), dtype=np.float32)[:, 1:]  # the first row is no tag
    own = np.concatenate([np.zeros((len(y), 1), bool), y > 0], axis=1)
    seen = [model.seen_by_d(images, patch) for patch in (centre_patch(images), model.paint(images))]
    logits = np.stack(
        [
            [model.discriminator(x, np.repeat(row[None], len(x), 0))["logit"] for row in alone]
            for x in seen
        ]
    ).transpose(2, 0, 1)  # [N, true or predicted, labels]
    blocks = [
        _heat_table(image, table, framed, names)
        for image, table, framed in zip(gray(images), logits, own, strict=True)
    ]
    return np.concatenate(blocks)


def _heat_table(image, logits, own, names) -> np.ndarray:
    """Draws an image and its two rows of cells, in as many lines as needed."""
    width, height = _CELL
    lines = -(-len(names) // _ACROSS)
    left = _LEAST_WIDTH + 64
    tall = round(image.shape[0] * _LEAST_WIDTH / image.shape[1])
    line_height = _HEADER + 2 * height + 2 * _GAP
    size = (left + min(len(names), _ACROSS) * width, max(tall + _GAP, lines * line_height))
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(Image.fromarray(image).resize((_LEAST_WIDTH, tall)), (0, 0))
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
            draw.rectangle((x, top, x + width - 3, top + height - 3), fill=_heat(sigma))
            draw.text((x + 4, top + 1), f"{logit:+.2f}\n{sigma:4.0%}", fill="black", spacing=1)
        if own[k]:
            box = (x - 2, y, x + width - 1, y + _HEADER + 2 * height - 1)
            draw.rectangle(box, outline=(255, 255, 90), width=2)
    return np.asarray(sheet)


def _heat(sigma: float) -> tuple[int, ...]:
    """Colour of σ(D): blue at 0, near white at 0.5, orange at 1."""
    end = np.array((90, 140, 255) if sigma < 0.5 else (255, 150, 50))
    share = abs(2 * sigma - 1)
    return tuple(int(c) for c in np.round(share * end + (1 - share) * 240))


def gray(images: np.ndarray) -> np.ndarray:
    """Converts z-scores, float [N, H, W, 1], to gray levels, uint8 [N, H, W]."""
    images = (tf.squeeze(images, axis=-1) / _RANGE + 1.0) * 127.5
    return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8).numpy()


def _rows_of_pictures(rows: list[list[np.ndarray]], titles: list[str]) -> np.ndarray:
    """Joins pictures uint8 [H, W, 3] in titled rows; uint8 [height, width, 3]."""
    zoom = -(-_LEAST_WIDTH_OF_HEADS // rows[0][0].shape[1])
    height, width = (side * zoom for side in rows[0][0].shape[:2])
    size = (len(rows[0]) * (width + _GAP), len(rows) * (height + _HEADER))
    sheet = Image.new("RGB", size)
    draw = ImageDraw.Draw(sheet)
    for i, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top = i * (height + _HEADER)
        draw.text((2, top + 2), title, fill=_TEXT)
        for j, picture in enumerate(row):
            tile = Image.fromarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1))
            sheet.paste(tile, (j * (width + _GAP), top + _HEADER))
    return np.asarray(sheet)


def segmentation_panel(images: np.ndarray, truth: np.ndarray, masks: np.ndarray, titles: list[str]):
    """Draws one row per image, z-scored float [N, H, W, 1]: plain, true and predicted outlines.

    `truth` and `masks` are classes, integer [N, H, W].
    """
    rows = [
        [outline(image, mask) for mask in (np.zeros_like(a), a, b)]
        for image, a, b in zip(gray(images), truth, masks, strict=True)
    ]
    return _rows_of_pictures(rows, titles)


def classification_panel(images: np.ndarray, titles: list[str]) -> np.ndarray:
    """Draws one image per row, z-scored float [N, H, W, 1], with a title above."""
    rows = [[np.repeat(image[..., np.newaxis], 3, axis=-1)] for image in gray(images)]
    return _rows_of_pictures(rows, titles)


def on_page(
    image: np.ndarray, shape: tuple[int, int], mask: np.ndarray | None = None
) -> np.ndarray:
    """Draws an image, uint8 [h, w], in its source's proportions, with outlines if it has a mask.

    The mask, uint8, has the source's `shape`. The longer side of the picture, uint8 [H, W, 3], has
    520 pixels.
    """
    size = tuple(max(1, round(_ON_PAGE * side / max(shape))) for side in reversed(shape))
    shown = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    classes = np.zeros(shape, np.uint8) if mask is None else mask
    drawn = Image.fromarray(classes).resize(size, Image.Resampling.NEAREST)
    return outline(np.asarray(shown), np.asarray(drawn))


def confusion_picture(confusion: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Draws counts, int [K, K], true classes down and predicted ones across; [H, W, 3]."""
    cell, left, top = 64, 150, 60
    size = cell * len(classes)
    sheet = Image.new("RGB", (left + size + 10, top + size + 10), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((left, 8), "predicted", fill="black")
    draw.text((8, top - 18), "true", fill="black")
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    for i, name in enumerate(classes):
        draw.text((8, top + i * cell + cell // 2 - 6), name[:22], fill="black")
        draw.text((left + i * cell + 4, top - 18), name[:9], fill="black")
        for j in range(len(classes)):
            x, y = left + j * cell, top + i * cell
            dark = round(255 * (1 - share[i, j]))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=(dark, dark, 255))
            text = "white" if share[i, j] > 0.5 else "black"
            draw.text((x + cell // 2 - 8, y + cell // 2 - 6), str(confusion[i, j]), fill=text)
    return np.asarray(sheet)
