"""Reads values of header elements, and lists the SOP classes of ultrasound."""

from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

#: The SOP class tells what a file is; (0008,0060) Modality is free text in practice.
ULTRASOUND: frozenset[str] = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.6",  # the same, retired
        "1.2.840.10008.5.1.4.1.1.3",
        "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume Storage
    }
)
#: Captured screens of any device; they are ultrasound if (0008,0060) Modality is US.
SECONDARY_CAPTURE: frozenset[str] = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
        "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte
        "1.2.840.10008.5.1.4.1.1.7.3",  # Multi-frame Grayscale Word
        "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color
    }
)
_FRAMES = Tag("NumberOfFrames")


def value(dataset: Dataset, tag: BaseTag) -> Any:
    """Returns the value of an element, or None; many times as fast as by keyword."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        element = dataset[tag]  # converts it
    return None if element is None else element.value


def number_of_frames(header: Dataset) -> int:
    """Returns (0028,0008) Number of Frames, at least 1; absent, empty and 0 mean 1."""
    return int(value(header, _FRAMES) or 1)
