"""A mask drawn on its image, for a look."""

import io

import numpy as np
from PIL import Image, ImageDraw

from tf_dicom_ce.outlines import colour, outline
from tf_dicom_ce.results.source import Source

_LINE = 14  # height of a line of the legend


def overlay(image: Source | np.ndarray, mask: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """Outlines on the image, and below it a legend with a line a class.

    Args:
        image: A source, or gray levels uint8 [H, W].
        mask: Classes, uint8 of its height and width; 0 is not drawn.
        classes: Names of all classes, background first.

    Returns:
        A PNG in colour, W pixels wide and 14 more a class than H high.
    """
    pixels = image.pixels if isinstance(image, Source) else image
    height, width = pixels.shape
    sheet = Image.new("RGB", (width, height + _LINE * (len(classes) - 1)))
    sheet.paste(Image.fromarray(outline(pixels, mask)))
    draw = ImageDraw.Draw(sheet)
    for label, name in enumerate(classes[1:], start=1):
        draw.text((2, height + _LINE * (label - 1)), name, fill=colour(label))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
