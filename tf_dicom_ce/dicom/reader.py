"""One ultrasound DICOM file to its header, or to one frame in gray levels."""

import dataclasses
import os

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.tag import Tag
from pydicom.uid import UID

from tf_dicom_ce.dicom import decoders, grayscale, part10
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import crop_region

__all__ = ["Code", "Frame", "Refusal", "number_of_frames", "read_frame", "read_header"]

# (0008,0060) Modality is free text in practice; the SOP class says what a file is.
_ULTRASOUND_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
    "1.2.840.10008.5.1.4.1.1.6",  # the same, retired
    "1.2.840.10008.5.1.4.1.1.3",
)
_MAX_FRAME_SAMPLES = 1 << 26
_NOT_SQUARE = "pixels not square, not resampled"


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of an ultrasound file.

    Attributes:
        pixels: (H, W) uint8, 0 black to 255 white, cropped to the ultrasound region if the file
            names one.
        flags: Every decision taken on the way, in plain words, e.g. "cropped to region".
        crop: Rows and columns of the source that `pixels` are.
        source_shape: (0028,0010) Rows and (0028,0011) Columns of the source.
    """

    pixels: np.ndarray
    flags: tuple[str, ...]
    crop: tuple[slice, slice]
    source_shape: tuple[int, int]


def read_header(path: str | os.PathLike[str]) -> Dataset | Refusal:
    """Reads all elements before the pixel data, and checks that a frame can be expected.

    Nothing is decoded, yet a file that was cut off is found. Look at the elements of the result
    within `quiet()`, for pydicom's warnings quote them.

    Args:
        path: Any path; links are not followed.

    Returns:
        The header of an ultrasound image, or why there is none. No content of a file raises.
    """
    with quiet():
        opened = _open(path)
        if isinstance(opened, Refusal):
            return opened
        opened.file.close()
        return opened.header


def read_frame(path: str | os.PathLike[str], index: int | None = None) -> Frame | Refusal:
    """Decodes one frame; memory does not grow with the number of frames.

    Args:
        path: Any path; links are not followed.
        index: From 0 to (0028,0008) Number of Frames - 1; None for the middle one.

    Returns:
        The frame, or why there is none. No content of a file raises.
    """
    with quiet():
        opened = _open(path)
        if isinstance(opened, Refusal):
            return opened
        with opened.file:
            frames = number_of_frames(opened.header)
            index = frames // 2 if index is None else index
            if not 0 <= index < frames:
                return Refusal(Code.FRAME_OUT_OF_RANGE, _element("NumberOfFrames"))
            try:
                return _to_frame(opened.header, *_decode(opened, index))
            # Decoders raise anything on damaged streams; their messages are not for the user.
            except Exception as error:
                return Refusal(Code.DECODE_FAILED, type(error).__name__)


def number_of_frames(header: Dataset) -> int:
    """(0028,0008) Number of Frames, at least 1; absent, empty and 0 mean 1."""
    return int(header.get("NumberOfFrames") or 1)


def _open(path: str | os.PathLike[str]) -> part10.Part10 | Refusal:
    """Opens, parses and checks; the caller closes the file of a success."""
    file = part10.open_regular(path)
    if isinstance(file, Refusal):
        return file
    opened = part10.parse(file)
    if isinstance(opened, Refusal):
        refusal = opened
    else:
        try:
            refusal = _check(opened)
        # A lazily converted element may be malformed in any way.
        except Exception as error:
            refusal = Refusal(Code.DAMAGED_HEADER, type(error).__name__)
    if refusal is None:
        return opened
    file.close()
    return refusal


def _check(opened: part10.Part10) -> Refusal | None:
    """Finds what stands against decoding, from the header and the length of the file alone."""
    header = opened.header
    sop_class = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if sop_class not in _ULTRASOUND_CLASSES:
        # The name of a standard class tells no one apart; a private UID might.
        name = UID(sop_class or "").keyword
        return Refusal(Code.NOT_ULTRASOUND if header.preamble else Code.NOT_DICOM, name)
    if "Rows" not in header or (opened.pixels is not None and opened.pixels.length == 0):
        return Refusal(Code.NO_PIXELS, "(0028,0010) 'Rows' or (7FE0,0010) 'Pixel Data'")
    if opened.pixels is None:
        return Refusal(Code.TRUNCATED, _element("PixelData"))
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored"):
        if not isinstance(header.get(keyword), int) or header[keyword].value <= 0:
            return Refusal(Code.DAMAGED_HEADER, _element(keyword))
    if number_of_frames(header) < 1:
        return Refusal(Code.DAMAGED_HEADER, _element("NumberOfFrames"))
    if header.get("PhotometricInterpretation") not in grayscale.SUPPORTED:
        return Refusal(Code.UNSUPPORTED_PHOTOMETRIC, _element("PhotometricInterpretation"))
    syntax = header.file_meta.TransferSyntaxUID
    if not decoders.plugins_for(syntax):
        return Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, _element("TransferSyntaxUID"))
    samples = header.Rows * header.Columns * header.SamplesPerPixel
    if samples > _MAX_FRAME_SAMPLES:
        return Refusal(Code.TOO_LARGE, "(0028,0010) 'Rows' × (0028,0011) 'Columns'")
    if part10.is_truncated(opened, _frame_bytes(header), number_of_frames(header)):
        return Refusal(Code.TRUNCATED, _element("PixelData"))
    return None


def _element(keyword: str) -> str:
    """Names an element as PS3.6 does, e.g. "(0028,0010) 'Rows'"."""
    tag = Tag(keyword)
    return f"{tag} '{dictionary_description(tag)}'"


def _frame_bytes(header: Dataset) -> int:
    """The size of one uncompressed frame."""
    bits = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated
    # Two pixels share their chroma: 4 bytes for 2 pixels instead of 6.
    return bits * 2 // 24 if header.PhotometricInterpretation == "YBR_FULL_422" else bits // 8


def _decode(opened: part10.Part10, index: int) -> tuple[np.ndarray, str]:
    """Decodes frame `index` to stored values and the colour space they are in."""
    header, pixels = opened.header, opened.pixels
    options = as_pixel_options(
        header, pixel_keyword="PixelData", **({"pixel_vr": pixels.vr} if pixels.vr else {})
    )
    syntax = UID(header.file_meta.TransferSyntaxUID)
    plugins = decoders.plugins_for(syntax)
    for plugin in plugins:
        try:
            stored, properties = get_decoder(syntax).as_array(
                part10.pixel_source(opened),
                index=index,
                raw=True,
                decoding_plugin=plugin,
                **options,
            )
            return stored, str(properties["photometric_interpretation"])
        # As in `read_frame`; the next plugin may be more lenient.
        except Exception:
            if plugin == plugins[-1]:
                raise
    raise AssertionError("`_check` lets no file pass that has no decoder")


def _to_frame(header: Dataset, stored: np.ndarray, photometric: str) -> Frame:
    crop, flags = crop_region(header)
    # Cropped first, so that the range of >8-bit values is that of the tissue.
    levels, more = grayscale.to_grayscale(
        stored if crop is None else stored[crop], photometric, header
    )
    aspect = header.get("PixelAspectRatio")
    if aspect and float(aspect[0]) != float(aspect[1]):
        more = (*more, _NOT_SQUARE)
    shape = (header.Rows, header.Columns)
    crop = crop or (slice(0, shape[0]), slice(0, shape[1]))
    return Frame(np.ascontiguousarray(levels), (*flags, *more), crop, shape)
