"""The files of an answer: DICOM results, and a picture to look at."""

import io
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.masks import colour, outline
from tf_dicom_ce.results.finding import Examined, Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.report import Former, write_report
from tf_dicom_ce.results.segmentation import write_segmentation
from tf_dicom_ce.results.source import SourceImage

_LINE = 14  # height of a line of the legend


def kinds(model: Model) -> tuple[str, ...]:
    """The DICOM results of a model's task: `seg` and `sr`, or `sr` alone."""
    return ("seg", "sr") if model.task == "segmentation" else ("sr",)


def write_dicom(
    file: BinaryIO,
    kind: str,
    images: Sequence[Examined],
    model: Model,
    former: Sequence[Former] = (),
) -> None:
    """Writes a DICOM file, the same bytes for the same images, findings, model and former reports.

    Args:
        file: Open for writing, empty.
        kind: One of `kinds`.
        images: Of DICOM files: one for `seg`, one or more of the same study and patient for `sr`.
        model: Who answered.
        former: Of `sr`, see `write_report`.

    Raises:
        ValueError: See `write_segmentation` and `write_report`.
    """
    with quiet():
        if kind == "seg":
            ((source, findings),) = images
            write_segmentation(file, source, findings, model)
        else:
            write_report(file, images, model, former)


def dicom_bytes(kind: str, source: SourceImage, finding: Finding, model: Model) -> bytes:
    """The content of the file that `write_dicom` writes of a single frame."""
    file = io.BytesIO()
    write_dicom(file, kind, [(source, [finding])], model)
    return file.getvalue()


def overlay(pixels: np.ndarray, mask: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """Draws outlines on the image, and below it a legend with a line for each class.

    Args:
        pixels: Gray levels, uint8 [H, W].
        mask: Classes, uint8 of its height and width; 0 is not drawn.
        classes: Names of all classes, background first.

    Returns:
        A PNG in colour, W pixels wide; its height is H and 14 more for each class but
        the background.
    """
    height, width = pixels.shape
    sheet = Image.new("RGB", (width, height + _LINE * (len(classes) - 1)))
    sheet.paste(Image.fromarray(outline(pixels, mask)))
    draw = ImageDraw.Draw(sheet)
    for label, name in enumerate(classes[1:], start=1):
        draw.text((2, height + _LINE * (label - 1)), name, fill=colour(label))
    file = io.BytesIO()
    sheet.save(file, "PNG", compress_level=3)  # of ultrasound half the default's time, no larger
    return file.getvalue()
