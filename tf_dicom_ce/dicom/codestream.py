"""Reads what a codestream says about its picture, from its headers alone."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

END_OF_IMAGE = b"\xff\xd9"  # JPEG and JPEG-LS
_SCAN = 0xDA
_LOSSLESS = (0xC3, 0xF7)  # JPEG and JPEG-LS
# Start of frame: C0 to CF, without Huffman tables, JPEG extensions and arithmetic coding tables.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1, 0xC3)
_RGB_IDS = (b"RGB", b"rgb")
_COD, _TILE = 0x52, 0x90  # JPEG 2000


class FrameHeader(NamedTuple):
    """What a codestream says about its picture."""

    precision: int  # bits per sample
    rows: int  # height
    columns: int  # width
    components: int  # samples per pixel
    lossless: bool = False  # JPEG: no DCT
    is_sequential: bool = False  # JPEG: not progressive
    has_rgb_ids: bool = False  # JPEG: the components are named R, G and B
    is_subsampled: bool = False  # JPEG: some components have fewer samples
    is_transformed: bool = False  # JPEG 2000: COD says so; the decoder then returns RGB

    def require_size(self, rows: int, columns: int) -> None:
        """Raises ValueError for another size: a small header may hide gigabytes of pixels."""
        if (rows, columns) != (self.rows, self.columns):
            raise ValueError("the codestream's size differs from Rows and Columns")


def jpeg_frame(src: bytes) -> FrameHeader:
    """Reads the first frame header of JPEG or JPEG-LS; ValueError if a scan comes first."""
    for marker, position in _jpeg_segments(src):
        if marker in _FRAMES:
            precision, rows, columns, count = struct.unpack_from(">BHHB", src, position + 4)
            parts = src[position + 10 : position + 10 + 3 * count]
            return FrameHeader(
                *(precision, rows, columns, count),
                lossless=marker in _LOSSLESS,
                is_sequential=marker in _SEQUENTIAL,
                has_rgb_ids=parts[::3] in _RGB_IDS,
                is_subsampled=len(set(parts[1::3])) > 1,
            )
    raise ValueError("no frame header")


def is_one_scan(src: bytes) -> bool:
    """Tells whether the first scan of a JPEG holds the whole picture."""
    found = jpeg_frame(src)
    return found.is_sequential and any(
        marker == _SCAN and src[position + 4] == found.components
        for marker, position in _jpeg_segments(src)
    )


def jpeg_2000_frame(src: bytes) -> FrameHeader:
    """Reads the segments SIZ and COD of a JPEG 2000 codestream; ValueError without SIZ."""
    siz = src.find(b"\xff\x4f\xff\x51")
    if siz < 0 or len(src) < siz + 43:
        raise ValueError("no SIZ segment")
    x1, y1, x0, y0 = struct.unpack_from(">4L", src, siz + 8)
    components, precision = struct.unpack_from(">HB", src, siz + 40)
    # The last field of SGcod: the multiple component transform.
    transforms = (src[k + 8] for marker, k in _segments(src, siz + 2, _TILE) if marker == _COD)
    size = ((precision & 0x7F) + 1, y1 - y0, x1 - x0, components)
    return FrameHeader(*size, is_transformed=next(transforms, 0) == 1)


def _jpeg_segments(src: bytes) -> Iterator[tuple[int, int]]:
    return _segments(src, src.find(b"\xff\xd8") + 2, _SCAN)


def _segments(src: bytes, position: int, last: int) -> Iterator[tuple[int, int]]:
    """Yields marker and position of each segment, up to the first with the marker `last`."""
    while position >= 2 and position + 10 <= len(src) and src[position] == 0xFF:
        marker = src[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        yield marker, position
        if marker == last:
            return
        position += 2 + struct.unpack_from(">H", src, position + 2)[0]
