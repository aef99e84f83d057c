"""The coverage report as a page to look at: pictures of every group beside the numbers."""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.decoding import ImageReader, Sample, decode_images
from tf_dicom_ce.templates import fill

if TYPE_CHECKING:
    from tf_dicom_ce.intake.index import Index

_PICTURES = 4  # a group
_SIZE = (240, 180)


def render_page(index: "Index", reader: ImageReader, undecodable: Mapping[int, Refusal]) -> str:
    """Renders one self-contained HTML page.

    Args:
        index: The index.
        reader: Reads the pictures.
        undecodable: Row number to refusal, for files whose pixels could not be decoded.

    Returns:
        HTML; it shows images, raw tag values and paths, all escaped.
    """
    unreadable = {index.rows[row].path: refusal for row, refusal in undecodable.items()}
    unreadable |= {path: r for path, r in index.refusals if not r.code.is_skip}
    content = {
        "coverage": index.coverage.with_decode_refusals(undecodable.values()),
        "schema": index.schema.name,
        "pictures": _pictures(index, reader, undecodable),
        "unreadable": sorted(unreadable.items()),
    }
    return fill("intake/coverage.html.jinja", content)


def _pictures(
    index: "Index", reader: ImageReader, undecodable: Mapping[int, Refusal]
) -> dict[tuple[str, str], list[str]]:
    """(tag, label) to JPEGs, base64, of a few of its rows, spread over the folder."""
    groups, column = {}, 0
    y = np.array([row.y for row in index.rows])
    for tag in index.schema.tags:
        for label in tag.labels:
            rows = np.flatnonzero(y[:, column])
            column += 1
            spread = np.linspace(0, len(rows) - 1, min(_PICTURES, len(rows))).round().astype(int)
            groups[tag.name, label] = rows[spread].tolist()
    chosen = sorted({row for rows in groups.values() for row in rows} - undecodable.keys())
    images = [Sample(index.rows[row].path, row, None) for row in chosen]
    decoded = {
        chosen[k]: _jpeg(frame.pixels)
        for k, frame in decode_images(reader, images)
        if not isinstance(frame, Refusal)
    }
    return {group: [decoded[k] for k in rows if k in decoded] for group, rows in groups.items()}


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail(_SIZE)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
