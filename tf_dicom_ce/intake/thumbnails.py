"""Makes small pictures of files, for HTML pages."""

import base64
import io
from collections.abc import Collection

import numpy as np
from PIL import Image

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.decoding import ImageReader, Sample, decode_images
from tf_dicom_ce.intake.index import Index

_SIZE = (240, 180)


def thumbnails(index: Index, reader: ImageReader, rows: Collection[int]) -> dict[int, str]:
    """Returns row number to base64 JPEG; leaves out rows that cannot be decoded."""
    rows = sorted(rows)
    images = [Sample(index.rows[row].path, row, None) for row in rows]
    return {
        rows[k]: _jpeg(frame.pixels)
        for k, frame in decode_images(reader, images)
        if not isinstance(frame, Refusal)
    }


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail(_SIZE)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
