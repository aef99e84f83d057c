"""What is answered about an image, in JSON's types."""

import base64
import io

import numpy as np
from PIL import Image

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import number_of_frames
from tf_dicom_ce.masks import colour
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import Source

_OF_MODEL = ("name", "version", "weights_digest", "task", "synthetic")
_NOTICE = "Research use only. Not a medical device."


def answer(source: Source, model: Model, outputs: dict[str, np.ndarray], picture: bool) -> dict:
    """Says who answered, about what, and the answer.

    Args:
        source: The image; that of a PNG or JPEG has a header of Rows and Columns only.
        model: Who answered.
        outputs: For this one image: `mask` uint8 of its height and width; or `class_id` int32 and
            `probabilities` float32 [K].
        picture: Whether to add what the model saw.

    Returns:
        `model`, `notice` and `image`; of a segmentation `classes` with their shares of the region
        and `mask` at Rows × Columns, a byte a pixel; of a classification `class` and `classes`
        with their probabilities; perhaps `picture`. Both pictures are {"b64": PNG}.
    """
    result = _segmentation if model.task == "segmentation" else _classification
    found = {
        "model": {name: getattr(model, name) for name in _OF_MODEL},
        "notice": _NOTICE,
        "image": _image(source),
        **result(source, model, outputs),
    }
    return found | {"picture": _png(source.pixels)} if picture else found


def is_picture(source: Source) -> bool:
    """Whether it is of a PNG or JPEG."""
    return not hasattr(source.header, "file_meta")


def _image(source: Source) -> dict:
    with quiet():
        return {
            "format": "picture" if is_picture(source) else "dicom",
            "rows": int(source.header.Rows),
            "columns": int(source.header.Columns),
            "frame": source.frame,
            "frames": number_of_frames(source.header),
            "region": dict(zip(("top", "left", "height", "width"), source.region, strict=True)),
        }


def _segmentation(source: Source, model: Model, outputs: dict[str, np.ndarray]) -> dict:
    mask = outputs["mask"]
    counts = np.bincount(mask.ravel(), minlength=len(model.classes))
    classes = [
        {
            "class_id": label,
            "name": name,
            "share": int(counts[label]) / mask.size,
            "colour": "#" + bytes(colour(label)).hex() if label else None,
        }
        for label, name in enumerate(model.classes)
    ]
    return {"classes": classes, "mask": _png(source.in_file(mask))}


def _classification(source: Source, model: Model, outputs: dict[str, np.ndarray]) -> dict:
    classes = [
        {"class_id": label, "name": name, "probability": float(outputs["probabilities"][label])}
        for label, name in enumerate(model.classes)
    ]
    return {"class": model.classes[int(outputs["class_id"])], "classes": classes}


def _png(pixels: np.ndarray) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return {"b64": base64.b64encode(file.getvalue()).decode()}
