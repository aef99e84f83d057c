"""The frames of an open file as stored values, one at a time."""

import os
import struct
from typing import Any, NamedTuple

import numpy as np
from pydicom.pixels.utils import as_pixel_options

from tf_dicom_ce.dicom import cells, decoders, encapsulated, jpeg, part10
from tf_dicom_ce.dicom.decoded import Decoded
from tf_dicom_ce.dicom.description import Description, element_name
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code, Refusal

_TRUNCATED = Refusal(Code.TRUNCATED, element_name("PixelData"))
_WRONG_SYNTAX = Refusal(Code.WRONG_TRANSFER_SYNTAX, element_name("TransferSyntaxUID"))


class Stored(NamedTuple):
    """One frame as it is stored.

    Attributes:
        values: (H, W) or (H, W, 3) integers.
        photometric: (0028,0004) Photometric Interpretation that they have.
        bits: Of a value; more than (0028,0101) Bits Stored if some need more.
        flags: Where they contradict the header.
    """

    values: np.ndarray
    photometric: str
    bits: int
    flags: tuple[Flag, ...]


class Frames:
    """Random access to the frames of one file; memory holds one of them.

    Attributes:
        refused: What stands against decoding any of them, or None.
        flags: Where the length of the pixel data contradicts the header.
    """

    def __init__(self, opened: part10.Part10, description: Description) -> None:
        self._opened, self._description = opened, description
        self._options: dict[str, Any] = {}
        self._by_frame: list[list[encapsulated.Fragment]] | None = None
        self.flags: tuple[Flag, ...] = ()
        is_native = description.syntax in part10.NATIVE
        self.refused = self._measure() if is_native else self._walk()

    def decode(self, index: int) -> Stored | Refusal:
        """Decodes frame `index` to stored values."""
        opened, description = self._opened, self._description
        if not self._options:
            self._prepare()
        if description.syntax in part10.NATIVE:
            opened.file.seek(opened.pixels.offset)
            decoded = decoders.decode_native(opened.file, index, description.syntax, self._options)
        elif self._by_frame is None:
            return Refusal(Code.DECODE_FAILED, "fragments and offset tables disagree")
        else:
            decoded = self._decode_stream(encapsulated.read(opened.file, self._by_frame[index]))
        if isinstance(decoded, Refusal):
            return decoded
        values, photometric, flags = decoded
        if description.syntax in decoders.JPEG:
            return Stored(values, photometric, 8, flags)
        bits = description.bits_stored
        if description.syntax in decoders.OF_CELLS:
            values, flags = cells.values_of(values, opened.header)
        elif (needed := cells.bits_of(values)) > bits:
            bits, flags = needed, (*flags, Flag.BEYOND_BITS_STORED)
        return Stored(values, photometric, bits, flags)

    def _measure(self) -> Refusal | None:
        """Compares the length of uncompressed pixel data with what the header needs."""
        pixels, description = self._opened.pixels, self._description
        if pixels.length is None:
            return _WRONG_SYNTAX
        needed = description.frame_bytes * description.frames
        if description.photometric == "YBR_FULL_422":
            # Decompressors that write all chroma, and leave the header as it was.
            whole = description._replace(photometric="YBR_FULL")
            at_full = whole.frame_bytes * whole.frames
            if pixels.length in (at_full, at_full + at_full % 2):
                self._description, needed = whole, at_full
                self.flags = (Flag.NOT_SUBSAMPLED,)
        if pixels.length > needed + needed % 2:
            self.flags = (Flag.SURPLUS_PIXELS,)
        available = self._opened.file.seek(0, os.SEEK_END) - pixels.offset
        return _TRUNCATED if min(pixels.length, available) < needed else None

    def _walk(self) -> Refusal | None:
        """Lists the fragments of compressed pixel data."""
        file, offset = self._opened.file, self._opened.pixels.offset
        file.seek(offset)
        if encapsulated.is_other(file.read(8)):
            return _WRONG_SYNTAX
        self._items = encapsulated.walk(file, offset)
        fragments = len(self._items.fragments)
        if fragments >= encapsulated.MAX_ITEMS:
            return Refusal(Code.TOO_LARGE, element_name("PixelData"))
        is_cut = self._items.cut or fragments < self._description.frames
        return _TRUNCATED if is_cut else None

    def _prepare(self) -> None:
        header, pixels = self._opened.header, self._opened.pixels
        self._options = as_pixel_options(header, pixel_keyword="PixelData")
        self._options.pop("extended_offsets", None)
        self._options["photometric_interpretation"] = self._description.photometric
        if pixels.vr:
            self._options["pixel_vr"] = pixels.vr
        if self._description.syntax not in part10.NATIVE:
            table = header.get("ExtendedOffsetTable") or b""
            extended = struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])
            self._by_frame = encapsulated.frame_fragments(
                self._opened.file, self._items, self._description.frames, extended
            )

    def _decode_stream(self, stream: bytes) -> Decoded | Refusal:
        description = self._description
        if description.syntax not in decoders.JPEG:
            return decoders.decode_stream(stream, description.syntax, self._options)
        return jpeg.decode_jpeg(
            stream,
            description.rows,
            description.columns,
            description.samples,
            description.photometric,
        )
