"""`test.html`: how a head did on its test set, and the images on which it did worst."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tf_dicom_ce.data.labels import Example
from tf_dicom_ce.data.tasks import Task
from tf_dicom_ce.masks import colour
from tf_dicom_ce.templates import fill
from tf_dicom_ce.whole_files import write_text
from tf_dicom_ce.wording import describe, interval, number


class Case(NamedTuple):
    """An image on the page.

    Attributes:
        example: Which.
        words: How the head did.
        pictures: uint8 [H, W, 3] by caption.
    """

    example: Example
    words: str
    pictures: Mapping[str, np.ndarray]


class FalsePositive(NamedTuple):
    """A class that an image lacks and the head found all the same.

    Attributes:
        example: Which.
        name: Of the class.
        share: Of the image's pixels.
    """

    example: Example
    name: str
    share: float


def write_page(
    path: Path,
    task: Task,
    measures: Mapping[str, Mapping],
    score: str,
    worst: Sequence[Case],
    false_positives: Sequence[FalsePositive] = (),
) -> None:
    """Writes one self-contained page that only this user may read.

    Args:
        path: Of the page.
        task: What was tested.
        measures: As in `result.json`.
        score: What `worst` is sorted by.
        worst: The worst images, worst first.
        false_positives: All of them.
    """
    outlined = task.classes[1:] if task.source_masks else ()
    rows = [
        (
            name,
            number(of["value"]),
            of["unit"],
            interval(*of["interval_95"]),
            describe(name, task.classes).meaning,
        )
        for name, of in measures.items()
    ]
    content = {
        "images": len(task.split.test),
        "patients": len(np.unique(task.patients[task.split.test])),
        "measures": rows,
        "score": score,
        "worst": worst,
        "legend": [(name, f"rgb{colour(k)}") for k, name in enumerate(outlined, start=1)],
        "false_positives": false_positives,
    }
    html = fill("training/result_page.html.jinja", content, {"jpeg": _jpeg})
    write_text(path, html, private=True)


def _jpeg(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88, subsampling=0)  # thin lines stay sharp
    return base64.b64encode(file.getvalue()).decode()
