"""The size of the picture that a codestream holds, from its headers alone."""

import struct
from typing import NamedTuple

_SCAN = 0xDA
_LOSSLESS = (0xC3, 0xF7)  # JPEG and JPEG-LS
# Start of frame: all of C0 to CF but the tables of Huffman, JPEG extensions, arithmetic coding.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_RGB_IDS = (b"RGB", b"rgb")


class FrameHeader(NamedTuple):
    """What a codestream says about its picture."""

    precision: int
    rows: int
    columns: int
    components: int
    lossless: bool = False
    has_rgb_ids: bool = False


def jpeg_frame(src: bytes) -> FrameHeader:
    """Walks the segments of JPEG or JPEG-LS to the first frame header.

    Raises:
        ValueError: There is none before the first scan.
    """
    position = src.find(b"\xff\xd8") + 2
    while position >= 2 and position + 10 <= len(src) and src[position] == 0xFF:
        marker = src[position + 1]
        if marker in _FRAMES:
            precision, rows, columns, count = struct.unpack_from(">BHHB", src, position + 4)
            ids = src[position + 10 : position + 10 + 3 * count : 3]
            return FrameHeader(
                precision, rows, columns, count, marker in _LOSSLESS, ids in _RGB_IDS
            )
        if marker == _SCAN:
            break
        if marker == 0xFF:  # fill byte
            position += 1
        else:
            position += 2 + struct.unpack_from(">H", src, position + 2)[0]
    raise ValueError("no frame header")


def jpeg_2000_frame(src: bytes) -> FrameHeader:
    """Reads the SIZ segment, which is the first of a JPEG 2000 codestream.

    Raises:
        ValueError: There is none.
    """
    siz = src.find(b"\xff\x4f\xff\x51")
    if siz < 0 or len(src) < siz + 43:
        raise ValueError("no SIZ segment")
    x1, y1, x0, y0 = struct.unpack_from(">4L", src, siz + 8)
    components, precision = struct.unpack_from(">HB", src, siz + 40)
    return FrameHeader((precision & 0x7F) + 1, y1 - y0, x1 - x0, components)
