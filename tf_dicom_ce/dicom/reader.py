"""One ultrasound DICOM file to its header, or to its frames in gray levels."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset

from tf_dicom_ce.dicom import grayscale, part10, regions, sector
from tf_dicom_ce.dicom.decisions import decisions
from tf_dicom_ce.dicom.description import (
    Description,
    describe,
    element_name,
    number_of_frames,
    refuse_class,
    refuse_syntax,
)
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.frames import Frames
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.sop_classes import ULTRASOUND

__all__ = [
    "Code",
    "Flag",
    "Frame",
    "Refusal",
    "inspect",
    "number_of_frames",
    "read_frame",
    "read_frames",
    "read_header",
]


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of an ultrasound file.

    Attributes:
        pixels: (H, W) uint8, 0 black to 255 white, cropped to the ultrasound region if the file
            names one.
        flags: Every decision taken on the way; those that the header tells come first.
        crop: Rows and columns of the source that `pixels` are.
        source_shape: (0028,0010) Rows and (0028,0011) Columns of the source.
    """

    pixels: np.ndarray
    flags: tuple[Flag, ...]
    crop: tuple[slice, slice]
    source_shape: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Image:
    """An open file from which a frame can be expected; the caller closes `part10.file`."""

    part10: part10.Part10
    description: Description
    frames: Frames

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What header and length of the pixel data tell."""
        return (*decisions(self.part10.header), *self.frames.flags)


def read_header(
    path: str | os.PathLike[str], classes: frozenset[str] = ULTRASOUND
) -> Dataset | Refusal:
    """Reads all elements before the pixel data, and checks that a frame can be expected.

    Nothing is decoded, yet a file that was cut off is found. Elements of more than 256 KiB are
    left out. Look at the elements of the result within `quiet()`, for pydicom's warnings quote
    them; a loop over many files is faster within `quiet()` too.

    Args:
        path: Any path; links are not followed.
        classes: The SOP class UIDs to accept.

    Returns:
        The header of an image, or why there is none. No content of a file raises.
    """
    with quiet():
        image = _open(path, classes)
        if isinstance(image, Refusal):
            return image
        image.part10.file.close()
        return image.part10.header


def inspect(
    path: str | os.PathLike[str], classes: frozenset[str] = ULTRASOUND
) -> tuple[Dataset, tuple[Flag, ...]] | Refusal:
    """Reads what `read_header` does, and lists what is decided without decoding.

    Args:
        path: Any path; links are not followed.
        classes: The SOP class UIDs to accept.

    Returns:
        The header of an image, and the flags that every frame has; or why there is no image. No
        content of a file raises.
    """
    with quiet():
        image = _open(path, classes)
        if isinstance(image, Refusal):
            return image
        image.part10.file.close()
        return image.part10.header, image.flags


def read_frame(
    path: str | os.PathLike[str],
    index: int | None = None,
    *,
    find_sector: bool = False,
    blank_outside: bool = False,
    classes: frozenset[str] = ULTRASOUND,
) -> Frame | Refusal:
    """Decodes one frame: the first result of `read_frames`.

    Args:
        path: Any path; links are not followed.
        index: From 0 to (0028,0008) Number of Frames - 1; None for the middle one.
        find_sector: See `read_frames`.
        blank_outside: See `read_frames`.
        classes: The SOP class UIDs to accept.

    Returns:
        The frame, or why there is none. No content of a file raises.
    """
    indices = None if index is None else (index,)
    options = {"find_sector": find_sector, "blank_outside": blank_outside, "classes": classes}
    return next(read_frames(path, indices, **options))


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | None = None,
    *,
    find_sector: bool = False,
    blank_outside: bool = False,
    classes: frozenset[str] = ULTRASOUND,
) -> Iterator[Frame | Refusal]:
    """Decodes frames one after the other; memory does not grow with their number.

    Args:
        path: Any path; links are not followed.
        indices: Each from 0 to (0028,0008) Number of Frames - 1; None for the middle one only.
        find_sector: Look for the ultrasound in the picture if the header names no usable region,
            and crop to it.
        blank_outside: Look for it then, or where the region is the whole picture, blacken what lies
            outside, and refuse the frame if nothing is found.
        classes: The SOP class UIDs to accept.

    Yields:
        For each index the frame, or why there is none. No content of a file raises.
    """
    with quiet():
        image = _open(path, classes)
    if isinstance(image, Refusal):
        yield from [image] * (1 if indices is None else len(indices))
        return
    with image.part10.file:
        frames = image.description.frames
        with quiet():
            flags, (crop, _) = image.flags, regions.crop_region(image.part10.header)
        for index in (frames // 2,) if indices is None else indices:
            if not 0 <= index < frames:
                yield Refusal(Code.FRAME_OUT_OF_RANGE, element_name("NumberOfFrames"))
                continue
            with quiet():
                frame = _read(image, index, crop, flags)
                if isinstance(frame, Frame):
                    frame = looked_at(frame, find_sector and crop is None, blank_outside)
            yield frame


def _open(path: str | os.PathLike[str], classes: frozenset[str]) -> _Image | Refusal:
    """Opens, parses and checks."""
    file = part10.open_regular(path)
    if isinstance(file, Refusal):
        return file
    opened = part10.parse(file)
    if isinstance(opened, Refusal):
        file.close()
        return opened
    try:
        image = _check(opened, classes)
    # A lazily converted element may be malformed in any way.
    except Exception as error:
        image = Refusal(Code.DAMAGED_HEADER, type(error).__name__)
    if isinstance(image, Refusal):
        opened.file.close()
    return image


def _check(opened: part10.Part10, classes: frozenset[str]) -> _Image | Refusal:
    """Finds what stands against decoding, from the header and the length of the file alone."""
    header = opened.header
    refused = refuse_class(header, classes)
    if refused is not None:
        return refused
    if regions.is_not_2d(header):
        return Refusal(Code.NOT_2D, element_name("RegionSpatialFormat"))
    refused = refuse_syntax(header)
    if refused is not None:
        return refused
    if opened.is_cut:
        return Refusal(Code.TRUNCATED, element_name("PixelData"))
    if "Rows" not in header or (opened.pixels is not None and opened.pixels.length == 0):
        return Refusal(Code.NO_PIXELS, "(0028,0010) 'Rows' or (7FE0,0010) 'Pixel Data'")
    if opened.pixels is None:
        return Refusal(Code.TRUNCATED, element_name("PixelData"))
    description = describe(header)
    if isinstance(description, Refusal):
        return description
    frames = Frames(opened, description)
    return frames.refused or _Image(opened, description, frames)


def _read(
    image: _Image, index: int, crop: regions.Crop | None, flags: tuple[Flag, ...]
) -> Frame | Refusal:
    """Decodes one frame and turns it into gray levels."""
    try:
        stored = image.frames.decode(index)
        if isinstance(stored, Refusal):
            return stored
        # Cropped first, so that the range of >8-bit values is that of the tissue.
        values = stored.values if crop is None else stored.values[crop]
        levels = grayscale.to_grayscale(
            values, stored.photometric, stored.bits, image.part10.header
        )
    # Decoders raise anything on damaged streams; their messages are not for the user.
    except Exception as error:
        return Refusal(Code.DECODE_FAILED, type(error).__name__)
    shape = (image.description.rows, image.description.columns)
    crop = crop or (slice(0, shape[0]), slice(0, shape[1]))
    return Frame(np.ascontiguousarray(levels), (*flags, *stored.flags), crop, shape)


def looked_at(frame: Frame, find_sector: bool, blank_outside: bool) -> Frame | Refusal:
    """Looks for the ultrasound in the picture, to crop to it or to blacken the rest.

    Args:
        frame: As it is read.
        find_sector: Crop to what is found.
        blank_outside: If the frame is the whole picture, blacken what lies outside of what is
            found, or refuse the frame if that is nothing.
    """
    is_whole = frame.pixels.shape == frame.source_shape
    if not (find_sector or (blank_outside and is_whole)):
        return frame
    box = sector.find_sector(frame.pixels)
    if box is None and blank_outside:
        return Refusal(Code.NO_SECTOR)
    if box is None:
        return dataclasses.replace(frame, flags=(*frame.flags, Flag.NO_SECTOR))
    if find_sector:
        pixels = np.ascontiguousarray(frame.pixels[box])
        return Frame(pixels, (*frame.flags, Flag.SECTOR_FOUND), box, frame.source_shape)
    pixels = np.zeros_like(frame.pixels)
    pixels[box] = frame.pixels[box]
    return dataclasses.replace(frame, pixels=pixels, flags=(*frame.flags, Flag.BLACKENED))
