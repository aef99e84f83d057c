"""The few elements that say what the pixel data hold."""

from typing import NamedTuple

from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.tag import Tag
from pydicom.uid import UID

from tf_dicom_ce.dicom import decoders, grayscale
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.values import value

_SOP_CLASS, _FRAMES, _PHOTOMETRIC = map(
    Tag, ("SOPClassUID", "NumberOfFrames", "PhotometricInterpretation")
)
_POSITIVE = {
    keyword: Tag(keyword)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
}
# Twice a screen of 3840 × 2160 in colour; half an hour at 30 frames per second.
_MAX_FRAME_SAMPLES = 1 << 25
_MAX_FRAMES = 1 << 16
_MAX_SAMPLES = 1 << 38


class Description(NamedTuple):
    """(0028,xxxx) and the transfer syntax, checked."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    photometric: str
    frames: int
    syntax: str

    @property
    def frame_bytes(self) -> int:
        """The size of one uncompressed frame."""
        bits = self.rows * self.columns * self.samples * self.bits_allocated
        # Two pixels share their chroma: 4 bytes for 2 pixels instead of 6.
        return bits * 2 // 24 if self.photometric == "YBR_FULL_422" else bits // 8


def number_of_frames(header: Dataset) -> int:
    """(0028,0008) Number of Frames, at least 1; absent, empty and 0 mean 1."""
    return int(value(header, _FRAMES) or 1)


def refuse_class(header: Dataset, classes: frozenset[str]) -> Refusal | None:
    """Refuses a header whose (0008,0016) SOP Class UID is none of `classes`."""
    found = value(header, _SOP_CLASS) or header.file_meta.get("MediaStorageSOPClassUID")
    if found in classes:
        return None
    # The name of a standard class tells no one apart; a private UID might.
    name = UID(found or "").keyword
    return Refusal(Code.NOT_ULTRASOUND if header.preamble else Code.NOT_DICOM, name)


def refuse_syntax(header: Dataset) -> Refusal | None:
    """Refuses a (0002,0010) Transfer Syntax UID that no decoder reads."""
    syntax = header.file_meta.TransferSyntaxUID
    if decoders.is_video(syntax):
        return Refusal(Code.VIDEO, UID(syntax).keyword)
    if not decoders.supports(syntax):
        return Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, element_name("TransferSyntaxUID"))
    return None


def describe(header: Dataset) -> Description | Refusal:
    """Reads and checks what is needed to decode a frame.

    Args:
        header: A header that has (0028,0010) Rows and a supported transfer syntax.

    Returns:
        The description, or what stands against decoding.
    """
    numbers = []
    for keyword, tag in _POSITIVE.items():
        numbers.append(value(header, tag))
        if not isinstance(numbers[-1], int) or numbers[-1] <= 0:
            return Refusal(Code.DAMAGED_HEADER, element_name(keyword))
    frames = number_of_frames(header)
    if frames < 1:
        return Refusal(Code.DAMAGED_HEADER, element_name("NumberOfFrames"))
    photometric = value(header, _PHOTOMETRIC)
    if photometric not in grayscale.SUPPORTED:
        return Refusal(Code.UNSUPPORTED_PHOTOMETRIC, element_name("PhotometricInterpretation"))
    syntax = header.file_meta.TransferSyntaxUID
    # JPEG tells itself what it holds.
    if syntax not in decoders.JPEG:
        if numbers[2] != (1 if photometric in grayscale.ONE_SAMPLE else 3):
            return Refusal(Code.DAMAGED_HEADER, element_name("SamplesPerPixel"))
        if numbers[4] > numbers[3]:
            return Refusal(Code.DAMAGED_HEADER, element_name("BitsStored"))
    samples = numbers[0] * numbers[1] * numbers[2]
    if samples > _MAX_FRAME_SAMPLES:
        return Refusal(Code.TOO_LARGE, "(0028,0010) 'Rows' × (0028,0011) 'Columns'")
    if frames > _MAX_FRAMES or samples * frames > _MAX_SAMPLES:
        return Refusal(Code.TOO_LARGE, element_name("NumberOfFrames"))
    return Description(*numbers, photometric, frames, syntax)


def element_name(keyword: str) -> str:
    """Names an element as PS3.6 does, e.g. "(0028,0010) 'Rows'"."""
    tag = Tag(keyword)
    return f"{tag} '{dictionary_description(tag)}'"
