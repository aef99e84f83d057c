"""Reads an ultrasound DICOM file: its header, or its frames as gray levels."""

import dataclasses
import functools
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.pixels.utils import as_pixel_options
from pydicom.tag import Tag
from pydicom.uid import UID

from tf_dicom_ce.dicom import decoders, encapsulated, grayscale, part10, regions
from tf_dicom_ce.dicom.decisions import decisions
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import SECONDARY_CAPTURE, ULTRASOUND, number_of_frames, value
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.dicom.video import Video
from tf_dicom_ce.dicom.video import is_available as can_read_video
from tf_dicom_ce.dicom.volumes import is_tissue

_SOP_CLASS, _PHOTOMETRIC = Tag("SOPClassUID"), Tag("PhotometricInterpretation")
_MODALITY = Tag("Modality")
_POSITIVE = {
    keyword: Tag(keyword)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
}
# More than a screen of 3840 × 2160 in colour; half an hour at 30 frames per second.
_MAX_FRAME_SAMPLES = 1 << 25
_MAX_FRAMES = 1 << 16
_MAX_SAMPLES = 1 << 38


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of an ultrasound file."""

    # (H, W) uint8, 0 black to 255 white, cropped to the ultrasound region if the file names one.
    pixels: np.ndarray
    flags: tuple[Flag, ...]  # every decision; those that the header determines come first
    region: Region  # the part of the source that `pixels` show
    source_shape: tuple[int, int]  # (0028,0010) Rows and (0028,0011) Columns of the source
    # As of `read_header`. None for a PNG or JPEG, and in any other process than the reader's,
    # because a header may be too large or too deep to be sent.
    header: Dataset | None = None
    compression: float = 1.0  # bytes of all frames uncompressed, over their bytes in the file

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "header": None}


def read_header(
    path: str | os.PathLike[str], classes: frozenset[str] = ULTRASOUND
) -> Dataset | Refusal:
    """Reads all elements before the pixel data, and checks that frames can be expected.

    It decodes nothing, but finds files that were cut off. It leaves out elements of more than
    256 KiB, follows no links, and refuses SOP classes other than `classes`. No content of a file
    raises. Read elements of the result within `quiet()`, because pydicom's warnings quote them;
    a loop over many files is faster within `quiet()`, too.
    """
    found = inspect(path, classes)
    return found if isinstance(found, Refusal) else found[0]


def inspect(
    path: str | os.PathLike[str], classes: frozenset[str] = ULTRASOUND
) -> tuple[Dataset, tuple[Flag, ...]] | Refusal:
    """Reads a header as `read_header`, and lists the flags that all frames share."""
    with quiet():
        image = _open(path, classes)
        if isinstance(image, Refusal):
            return image
        image.file.close()
        return image.header, image.flags


def read_frame(
    path: str | os.PathLike[str], index: int | None = None, **options: Any
) -> Frame | Refusal:
    """Decodes one frame, by default the middle one; the options are those of `read_frames`."""
    return next(read_frames(path, None if index is None else (index,), **options))


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | None = None,
    *,
    find_sector: bool = False,
    blank_outside: bool = False,
    classes: frozenset[str] = ULTRASOUND,
) -> Iterator[Frame | Refusal]:
    """Decodes frames one by one; memory does not grow with their number.

    Args:
        path: Any path; links are not followed.
        indices: Each from 0 to (0028,0008) Number of Frames - 1; None for the middle one only.
        find_sector: If the header names no usable region, find the ultrasound in the picture and
            crop to it.
        blank_outside: If the header names no usable region, or the whole picture, find the
            ultrasound and blacken all outside; refuse the frame if none is found.
        classes: The SOP class UIDs to accept.

    Yields:
        For each index the frame, or the reason why there is none. No content of a file raises.
    """
    with quiet():
        image = _open(path, classes)
    if isinstance(image, Refusal):
        yield from [image] * (1 if indices is None else len(indices))
        return
    with image.file:
        frames = image.description.frames
        with quiet():
            flags, (region, _) = image.flags, regions.crop_region(image.header)
        for index in (frames // 2,) if indices is None else indices:
            if not 0 <= index < frames:
                yield _refusal(Code.FRAME_OUT_OF_RANGE, "NumberOfFrames")
                continue
            with quiet():
                frame = image.read(index, region, flags)
                if isinstance(frame, Frame):
                    frame = looked_at(frame, find_sector and region is None, blank_outside)
            yield frame


def looked_at(frame: Frame, find_sector: bool, blank_outside: bool) -> Frame | Refusal:
    """Finds the ultrasound in a frame, to crop to it or to blacken the rest.

    `blank_outside` changes only frames that are the whole picture, and refuses those without
    ultrasound.
    """
    is_whole = frame.pixels.shape == frame.source_shape
    if not (find_sector or (blank_outside and is_whole)):
        return frame
    region = regions.find_sector(frame.pixels)
    if region is None and blank_outside:
        return Refusal(Code.NO_SECTOR)
    if region is None:
        return dataclasses.replace(frame, flags=(*frame.flags, Flag.NO_SECTOR))
    if find_sector:
        pixels = np.ascontiguousarray(frame.pixels[region.slices])
        flags = (*frame.flags, Flag.SECTOR_FOUND)
        return dataclasses.replace(frame, pixels=pixels, flags=flags, region=region)
    pixels = np.zeros_like(frame.pixels)
    pixels[region.slices] = frame.pixels[region.slices]
    return dataclasses.replace(frame, pixels=pixels, flags=(*frame.flags, Flag.BLACKENED))


class _Description(NamedTuple):
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


class _Image:
    """An open file from which frames can be expected; memory holds one of them.

    The caller closes its `file`. `refused` is the reason why no frame can be decoded, or None.
    """

    def __init__(self, opened: part10.Part10, description: _Description) -> None:
        self.file, self.header, self._pixels = opened.file, opened.header, opened.pixels
        self.description = description
        self._length_flags: tuple[Flag, ...] = ()
        is_native = description.syntax in part10.NATIVE
        self.refused = self._measure() if is_native else self._walk()

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags of the header and of the length of the pixel data."""
        return (*decisions(self.header), *self._length_flags)

    def read(self, index: int, region: Region | None, flags: tuple[Flag, ...]) -> Frame | Refusal:
        """Decodes frame `index` and turns it into gray levels."""
        try:
            if not is_tissue(self.header, index):
                return _refusal(Code.NOT_2D, "DataType")
            stored = self._decode(index)
            if isinstance(stored, Refusal):
                return stored
            (values, photometric, more), bits = stored
            # Crop first: the range of values of more than 8 bits has to be that of the tissue.
            values = values if region is None else values[region.slices]
            levels = grayscale.to_grayscale(values, photometric, bits, self.header)
        # Damaged streams raise any exception; a decoder's message would not help the user.
        except Exception as error:
            return Refusal(Code.DECODE_FAILED, type(error).__name__)
        shape = (self.description.rows, self.description.columns)
        region = region or Region(0, 0, *shape)
        levels = np.ascontiguousarray(levels)
        return Frame(levels, (*flags, *more), region, shape, self.header, self._compression)

    def _decode(self, index: int) -> tuple[decoders.Decoded, int] | Refusal:
        """Returns the stored values of frame `index`, and how many bits they need."""
        description, options = self.description, self._options
        if description.syntax in part10.NATIVE:
            self.file.seek(self._pixels.offset)
            decoded = decoders.decode_native(self.file, index, description.syntax, options)
        elif description.syntax in decoders.VIDEO:
            return decoders.Decoded(self._video.frame(index), "RGB"), 8
        elif self._by_frame is None:
            return Refusal(Code.DECODE_FAILED, "fragments and offset tables disagree")
        else:
            stream = encapsulated.read(self.file, self._by_frame[index])
            if description.syntax in decoders.JPEG:
                shape = (description.rows, description.columns, description.samples)
                found = decoders.decode_jpeg(stream, *shape, description.photometric)
                return found if isinstance(found, Refusal) else self._widened(*found)
            decoded = decoders.decode_stream(stream, description.syntax, options)
        if description.syntax in decoders.OF_CELLS:
            values, flags = decoders.values_of(decoded.values, self.header)
            return decoded._replace(values=values, flags=flags), description.bits_stored
        needed = max(decoders.bits_of(decoded.values), description.bits_stored)
        return self._widened(decoded, needed)

    def _widened(self, decoded: decoders.Decoded, bits: int) -> tuple[decoders.Decoded, int]:
        """Flags values that need more bits than (0028,0101) Bits Stored."""
        if bits <= self.description.bits_stored:
            return decoded, bits
        return decoded._replace(flags=(*decoded.flags, Flag.BEYOND_BITS_STORED)), bits

    @functools.cached_property
    def _options(self) -> dict[str, Any]:
        """The options of pydicom's decoders."""
        options = as_pixel_options(self.header, pixel_keyword="PixelData")
        options.pop("extended_offsets", None)
        options["photometric_interpretation"] = self.description.photometric
        return options | ({"pixel_vr": self._pixels.vr} if self._pixels.vr else {})

    @functools.cached_property
    def _video(self) -> Video:
        stream = encapsulated.read(self.file, self._items.fragments)
        return Video(stream, self.description.rows, self.description.columns)

    @functools.cached_property
    def _compression(self) -> float:
        description = self.description
        if description.syntax in part10.NATIVE:
            return 1.0
        whole = description._replace(photometric="RGB")  # each pixel with all of its samples
        encoded = sum(fragment.length for fragment in self._items.fragments)
        return whole.frame_bytes * whole.frames / encoded

    @functools.cached_property
    def _by_frame(self) -> list[list[encapsulated.Fragment]] | None:
        table = self.header.get("ExtendedOffsetTable") or b""
        extended = struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])
        frames = self.description.frames
        return encapsulated.frame_fragments(self.file, self._items, frames, extended)

    def _measure(self) -> Refusal | None:
        """Compares the length of uncompressed pixel data with what the header needs."""
        pixels, description = self._pixels, self.description
        if pixels.length is None:
            return _refusal(Code.WRONG_TRANSFER_SYNTAX, "TransferSyntaxUID")
        needed = description.frame_bytes * description.frames
        if description.photometric == "YBR_FULL_422":
            # Some decompressors write all chroma, but do not change the header.
            whole = description._replace(photometric="YBR_FULL")
            at_full = whole.frame_bytes * whole.frames
            if pixels.length in (at_full, at_full + at_full % 2):
                self.description, needed = whole, at_full
                self._length_flags = (Flag.NOT_SUBSAMPLED,)
        if pixels.length > needed + needed % 2:
            self._length_flags = (Flag.SURPLUS_PIXELS,)
        available = self.file.seek(0, os.SEEK_END) - pixels.offset
        is_cut = min(pixels.length, available) < needed
        return _refusal(Code.TRUNCATED, "PixelData") if is_cut else None

    def _walk(self) -> Refusal | None:
        """Lists the fragments of compressed pixel data."""
        file, offset = self.file, self._pixels.offset
        file.seek(offset)
        if encapsulated.is_other(file.read(8)):
            return _refusal(Code.WRONG_TRANSFER_SYNTAX, "TransferSyntaxUID")
        self._items = encapsulated.walk(file, offset)
        fragments = len(self._items.fragments)
        if fragments >= encapsulated.MAX_ITEMS:
            return _refusal(Code.TOO_LARGE, "PixelData")
        is_video = self.description.syntax in decoders.VIDEO  # one stream
        is_cut = self._items.cut or fragments < (1 if is_video else self.description.frames)
        return _refusal(Code.TRUNCATED, "PixelData") if is_cut else None


def _open(path: str | os.PathLike[str], classes: frozenset[str]) -> _Image | Refusal:
    """Opens, parses and checks a file."""
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
    """Tells by header and length of the file whether frames can be decoded, or why not."""
    header = opened.header
    sop_class = value(header, _SOP_CLASS) or header.file_meta.get("MediaStorageSOPClassUID")
    if sop_class not in classes:
        # The name of a standard class identifies nobody; a private UID might.
        name = UID(sop_class or "").keyword
        return Refusal(Code.NOT_ULTRASOUND if header.preamble else Code.NOT_DICOM, name)
    # Together with ultrasound, only captured screens of ultrasound are wanted.
    is_screen = sop_class in SECONDARY_CAPTURE and classes > ULTRASOUND
    if is_screen and value(header, _MODALITY) != "US":
        return _refusal(Code.NOT_ULTRASOUND, "Modality")
    if regions.is_not_2d(header):
        return _refusal(Code.NOT_2D, "RegionSpatialFormat")
    syntax = header.file_meta.TransferSyntaxUID
    if syntax in decoders.VIDEO and not can_read_video():
        return Refusal(Code.VIDEO, UID(syntax).keyword)
    if syntax not in decoders.SUPPORTED:
        return _refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, "TransferSyntaxUID")
    if opened.is_cut:
        return _refusal(Code.TRUNCATED, "PixelData")
    if "Rows" not in header or (opened.pixels is not None and opened.pixels.length == 0):
        return Refusal(Code.NO_PIXELS, "(0028,0010) 'Rows' or (7FE0,0010) 'Pixel Data'")
    if opened.pixels is None:
        return _refusal(Code.TRUNCATED, "PixelData")
    description = _describe(header)
    if isinstance(description, Refusal):
        return description
    image = _Image(opened, description)
    return image.refused or image


def _describe(header: Dataset) -> _Description | Refusal:
    """Reads and checks the elements that decoding a frame needs."""
    numbers = []
    for keyword, tag in _POSITIVE.items():
        numbers.append(value(header, tag))
        if not isinstance(numbers[-1], int) or numbers[-1] <= 0:
            return _refusal(Code.DAMAGED_HEADER, keyword)
    frames = number_of_frames(header)
    if frames < 1:
        return _refusal(Code.DAMAGED_HEADER, "NumberOfFrames")
    photometric = value(header, _PHOTOMETRIC)
    syntax = header.file_meta.TransferSyntaxUID
    if photometric not in grayscale.SUPPORTED and syntax not in decoders.VIDEO:
        return _refusal(Code.UNSUPPORTED_PHOTOMETRIC, "PhotometricInterpretation")
    # A JPEG or video describes its samples itself.
    if syntax not in decoders.JPEG and syntax not in decoders.VIDEO:
        if numbers[2] != (1 if photometric in grayscale.ONE_SAMPLE else 3):
            return _refusal(Code.DAMAGED_HEADER, "SamplesPerPixel")
        if numbers[4] > numbers[3]:
            return _refusal(Code.DAMAGED_HEADER, "BitsStored")
    samples = numbers[0] * numbers[1] * numbers[2]
    if samples > _MAX_FRAME_SAMPLES:
        return Refusal(Code.TOO_LARGE, "(0028,0010) 'Rows' × (0028,0011) 'Columns'")
    if frames > _MAX_FRAMES or samples * frames > _MAX_SAMPLES:
        return _refusal(Code.TOO_LARGE, "NumberOfFrames")
    return _Description(*numbers, photometric, frames, syntax)


def _refusal(code: Code, keyword: str) -> Refusal:
    """Makes a refusal that names an element as PS3.6 does, e.g. "(0028,0010) 'Rows'"."""
    tag = Tag(keyword)
    return Refusal(code, f"{tag} '{dictionary_description(tag)}'")
