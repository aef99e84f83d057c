"""The DICOM file of an answer."""

import io
from collections.abc import Mapping

import numpy as np
from pydicom import Dataset

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.seg import segmentation
from tf_dicom_ce.results.source import Source
from tf_dicom_ce.results.sr import report


def dicom_file(source: Source, model: Model, answer: Mapping[str, np.ndarray]) -> bytes:
    """Makes the file: a SEG for a segmentation, an SR for a classification.

    Args:
        source: The image, of a DICOM file.
        model: Who answered.
        answer: For this one image: `mask` uint8 of its height and width; or `class_id` int32 and
            `probabilities` float32 [K].
    """
    if model.task == "segmentation":
        return encode(segmentation(source, answer["mask"], model))
    return encode(report(source, int(answer["class_id"]), answer["probabilities"], model))


def encode(dataset: Dataset) -> bytes:
    """The content of a DICOM file (PS3.10) that holds `dataset`."""
    file = io.BytesIO()
    with quiet():
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
