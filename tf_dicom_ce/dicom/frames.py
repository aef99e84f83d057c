"""The frames of an open file as stored values, one at a time."""

import struct
from typing import Any

import numpy as np
from pydicom.pixels.utils import as_pixel_options

from tf_dicom_ce.dicom import decoders, encapsulated, part10
from tf_dicom_ce.dicom.description import Description
from tf_dicom_ce.dicom.refusals import Code, Refusal


class Frames:
    """Random access to the frames of one file; memory holds one of them.

    Attributes:
        truncated: True if the file ends within its pixel data.
        too_many: True if there are more fragments than any recording has.
    """

    def __init__(self, opened: part10.Part10, description: Description) -> None:
        self._opened, self._description = opened, description
        self._options: dict[str, Any] = {}
        self._by_frame: list[list[encapsulated.Fragment]] | None = None
        pixels, self.too_many = opened.pixels, False
        if pixels.length is not None:
            available = opened.file.seek(0, 2) - pixels.offset
            needed = description.frame_bytes * description.frames
            self.truncated = min(pixels.length, available) < needed
            return
        self._items = encapsulated.walk(opened.file, pixels.offset)
        fragments = len(self._items.fragments)
        self.too_many = fragments >= encapsulated.MAX_ITEMS
        self.truncated = self._items.cut or fragments < description.frames

    def decode(self, index: int) -> tuple[np.ndarray, str] | Refusal:
        """Decodes frame `index` to stored values and the colour space they are in."""
        opened, description = self._opened, self._description
        if not self._options:
            self._prepare()
        if opened.pixels.length is not None:
            opened.file.seek(opened.pixels.offset)
            return decoders.decode_native(opened.file, index, description.syntax, self._options)
        if self._by_frame is None:
            return Refusal(Code.DECODE_FAILED, "fragments and offset tables disagree")
        stream = encapsulated.read(opened.file, self._by_frame[index])
        if description.syntax in decoders.JPEG:
            return decoders.decode_jpeg(
                stream, description.rows, description.columns, description.photometric
            )
        return decoders.decode_stream(stream, description.syntax, self._options)

    def _prepare(self) -> None:
        header, pixels = self._opened.header, self._opened.pixels
        self._options = as_pixel_options(header, pixel_keyword="PixelData")
        self._options.pop("extended_offsets", None)
        if pixels.vr:
            self._options["pixel_vr"] = pixels.vr
        if pixels.length is None:
            table = header.get("ExtendedOffsetTable") or b""
            extended = struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])
            self._by_frame = encapsulated.frame_fragments(
                self._opened.file, self._items, self._description.frames, extended
            )
