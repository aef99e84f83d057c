"""Reads SEGs in programs that pin old packages, by the Python of an environment of their own.

    PYTHON elsewhere.py FILE.dcm …      prints a line for each file and reader that differs

Wants pydicom-seg 0.4.1 with pydicom 2, and python-gdcm; the mask that pydicom reads is the measure.
ITK is not asked about a still with two classes: since 5.4 it allows no distance of 0 between
slices, and both masks lie at the place of their image.
"""

import sys
from collections.abc import Iterator

import gdcm
import numpy as np
import pydicom
import pydicom_seg
import SimpleITK


def by_itk(path: str, masks: np.ndarray) -> bool:
    if 1 < len(masks) == len(pydicom.dcmread(path).SegmentSequence):
        return True
    image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
    return np.array_equal(image.reshape(masks.shape) > 0, masks)


def by_gdcm(path: str, masks: np.ndarray) -> bool:
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    if not reader.Read():
        return False
    bits = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), np.uint8)
    return np.array_equal(np.unpackbits(bits, bitorder="little")[: masks.size], masks.ravel())


def by_pydicom_seg(path: str, masks: np.ndarray) -> bool:
    dataset = pydicom.dcmread(path)
    segments = len(dataset.SegmentSequence)
    found = pydicom_seg.SegmentReader().read(dataset)
    return all(
        np.array_equal(found.segment_data(k + 1), masks[k::segments]) for k in range(segments)
    )


def differences(paths: list[str]) -> Iterator[str]:
    for path in paths:
        pixels = pydicom.dcmread(path).pixel_array
        masks = pixels.reshape(-1, *pixels.shape[-2:]) > 0
        for reader in (by_itk, by_gdcm, by_pydicom_seg):
            try:
                if not reader(path, masks):
                    yield f"{path}: {reader.__name__} reads another mask"
            except Exception as error:
                reason = str(error).splitlines()[-1]
                yield f"{path}: {reader.__name__} cannot read it ({reason})"


if __name__ == "__main__":
    for line in differences(sys.argv[1:]):
        print(line)
