"""Pictures of a head's answers: outlines on images, classes beside them, a confusion matrix."""

import numpy as np
from PIL import Image, ImageDraw

from tf_dicom_ce.outlines import outline
from tf_dicom_ce.training.panels import gray

_ZOOM_TO = 288
_TITLE = 16
_ON_PAGE = 520  # pixels of the longer side


def rows_of_pictures(rows: list[list[np.ndarray]], titles: list[str]) -> np.ndarray:
    """Pictures uint8 [H, W, 3] in rows, a title above each row; uint8 [height, width, 3]."""
    zoom = max(1, -(-_ZOOM_TO // rows[0][0].shape[1]))
    height, width = (side * zoom for side in rows[0][0].shape[:2])
    sheet = Image.new("RGB", (len(rows[0]) * (width + 4), len(rows) * (height + _TITLE)))
    draw = ImageDraw.Draw(sheet)
    for i, (row, title) in enumerate(zip(rows, titles, strict=True)):
        draw.text((2, i * (height + _TITLE) + 2), title, fill=(230, 230, 230))
        for j, picture in enumerate(row):
            tile = Image.fromarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1))
            sheet.paste(tile, (j * (width + 4), i * (height + _TITLE) + _TITLE))
    return np.asarray(sheet)


def segmentation_panel(images: np.ndarray, truth: np.ndarray, masks: np.ndarray, titles: list[str]):
    """A row an image: as it is, with the true outlines, with the predicted ones.

    Args:
        images: z-scored, float [N, H, W, 1].
        truth: Classes, integer [N, H, W].
        masks: Predicted classes, integer [N, H, W].
        titles: One an image.
    """
    blank = np.zeros_like(truth[0])
    rows = [
        [outline(image, blank), outline(image, a), outline(image, b)]
        for image, a, b in zip(gray(images), truth, masks, strict=True)
    ]
    return rows_of_pictures(rows, titles)


def classification_panel(images: np.ndarray, titles: list[str]) -> np.ndarray:
    """An image a row with a title above, z-scored float [N, H, W, 1]."""
    rows = [[np.repeat(image[..., np.newaxis], 3, axis=-1)] for image in gray(images)]
    return rows_of_pictures(rows, titles)


def on_page(
    image: np.ndarray, shape: tuple[int, int], mask: np.ndarray | None = None
) -> np.ndarray:
    """An image in its source's proportions, perhaps with outlines.

    Args:
        image: Gray levels, uint8 [h, w].
        shape: Height and width of the source.
        mask: Classes, uint8 of that height and width.

    Returns:
        uint8 [H, W, 3], the longer side of 520 pixels.
    """
    size = tuple(max(1, round(_ON_PAGE * side / max(shape))) for side in reversed(shape))
    shown = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    classes = np.zeros(shape, np.uint8) if mask is None else mask
    drawn = Image.fromarray(classes).resize(size, Image.Resampling.NEAREST)
    return outline(np.asarray(shown), np.asarray(drawn))


def confusion_picture(confusion: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Confusion matrix, true classes down and predicted ones across, uint8 [H, W, 3].

    Args:
        confusion: Counts, int [K, K].
        classes: Names.
    """
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
