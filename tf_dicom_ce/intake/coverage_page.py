"""The coverage report as a page to look at: pictures of every group beside the numbers."""

import base64
import io
from collections.abc import Mapping, Sequence

import jinja2
import numpy as np
from PIL import Image

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.coverage_counts import in_words
from tf_dicom_ce.intake.decoding import ImageReader, decode_images
from tf_dicom_ce.intake.frames import choose_frames
from tf_dicom_ce.intake.index import Index

_PICTURES = 4  # a group
_SIZE = (240, 180)


def render_page(index: Index, reader: ImageReader, undecodable: Mapping[int, Refusal]) -> str:
    """Renders one self-contained HTML page.

    Args:
        index: The index.
        reader: Reads the pictures.
        undecodable: Row number to refusal, for files whose pixels could not be decoded.

    Returns:
        HTML; it shows images, raw tag values and paths, all escaped.
    """
    coverage = index.coverage.with_decode_refusals(undecodable.values())
    groups = _groups(index)
    chosen = sorted({row for rows in groups.values() for row in rows} - undecodable.keys())
    pictures = _pictures(index, chosen, reader)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_dicom_ce.intake", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    unreadable = {index.rows[row].path: refusal for row, refusal in undecodable.items()}
    unreadable |= {path: r for path, r in index.refusals if not r.code.is_skip}
    return environment.get_template("coverage.html.jinja").render(
        coverage=coverage,
        schema=index.schema.name,
        numbers=(
            (coverage.images, "images"),
            (coverage.patients, "patients"),
            (coverage.unmapped_files, "with no tag mapped"),
            (coverage.skipped, "other files, skipped"),
            (coverage.unreadable, "unreadable"),
        ),
        tags=[
            {
                "name": name,
                "states": tuple(tag.states.items()),
                "groups": [
                    {
                        "label": label,
                        "files": files,
                        "pictures": [pictures[k] for k in groups[name, label] if k in pictures],
                    }
                    for label, files in tag.labels.items()
                    if files
                ],
                "suspicious": tag.suspicious,
                "unmapped": [
                    (value, n, *tag.hint(value)) for value, n in tag.unmapped_values.items()
                ],
                "mapped": [
                    (value, n, in_words(labels)) for value, (n, labels) in tag.mapped_values.items()
                ],
                "untidy": tuple(tag.untidy_values.items()),
                "ignored": tuple(tag.ignored_values.items()),
            }
            for name, tag in coverage.tags.items()
        ],
        patients=coverage.identification,
        flags=tuple(coverage.flags.items()),
        refusals=tuple(coverage.refusals.items()),
        unreadable=sorted(unreadable.items()),
    )


def _groups(index: Index) -> dict[tuple[str, str], list[int]]:
    """(tag, label) to a few of its rows, spread over the folder."""
    y = np.array([row.y for row in index.rows])
    groups, column = {}, 0
    for tag in index.schema.tags:
        for label in tag.labels:
            rows = np.flatnonzero(y[:, column])
            column += 1
            spread = np.linspace(0, len(rows) - 1, min(_PICTURES, len(rows))).round().astype(int)
            groups[tag.name, label] = rows[spread].tolist()
    return groups


def _pictures(index: Index, chosen: Sequence[int], reader: ImageReader) -> dict[int, str]:
    """Row to a small JPEG, base64."""
    images = choose_frames([index.rows[row] for row in chosen], "middle")
    return {
        chosen[k]: _jpeg(frame.pixels)
        for k, frame in decode_images(reader, images)
        if not isinstance(frame, Refusal)
    }


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail(_SIZE)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
