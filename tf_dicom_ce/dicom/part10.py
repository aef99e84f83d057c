"""From the bytes of a file to a parsed header and the place of its pixel data."""

import dataclasses
import io
import os
import re
import stat
import struct
import zlib
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tf_dicom_ce.dicom.refusals import Code, Refusal

_PREAMBLE = 132
_MAX_INFLATED_BYTES = 1 << 28
# A data set without preamble begins with group 0002 or 0008, in either byte order.
_BARE_DATASET = re.compile(
    rb"\x02\x00[\x00-\x03]\x00|\x08\x00[\x00-\x20]\x00|\x00\x08\x00[\x00-\x20]"
)
_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"
_PIXEL_DATA = 0x7FE00010


@dataclasses.dataclass(frozen=True)
class PixelData:
    """Where the value of (7FE0,0010) Pixel Data lies; `length` None for encapsulated."""

    offset: int
    length: int | None
    vr: str | None


@dataclasses.dataclass(frozen=True)
class Part10:
    """An open DICOM file.

    Attributes:
        file: The bytes that `pixels.offset` refers to; inflated if the file was deflated.
        header: All elements before the pixel data, with a (0002,0010) Transfer Syntax UID.
        pixels: Where the pixel data are; None if the file ends before them.
    """

    file: BinaryIO
    header: Dataset
    pixels: PixelData | None


def open_regular(path: str | os.PathLike[str]) -> BinaryIO | Refusal:
    """Opens a regular file, following no link and waiting for no writer of a FIFO."""
    try:
        # A device may react to being opened, so look before.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return Refusal(Code.NOT_REGULAR)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return os.fdopen(descriptor, "rb")
    except (OSError, ValueError) as error:
        return Refusal(Code.OS_ERROR, type(error).__name__)


def parse(file: BinaryIO) -> Part10 | Refusal:
    """Reads the header.

    Args:
        file: An open, seekable file at its start; closed here if it is deflated.

    Returns:
        The parsed file, or NOT_DICOM, OS_ERROR, DAMAGED_HEADER or TOO_LARGE.
    """
    try:
        head = file.read(_PREAMBLE)
        file.seek(0)
    except OSError as error:
        return Refusal(Code.OS_ERROR, type(error).__name__)
    bare = head[128:] != b"DICM"
    if bare and not _BARE_DATASET.match(head):
        return Refusal(Code.NOT_DICOM)
    try:
        if not bare:
            file = _inflate(file)
        header = dcmread(file, stop_before_pixels=True, force=bare)
        _complete_transfer_syntax(header)
        return Part10(file, header, _find_pixel_data(file, header))
    except _TooLargeError:
        return Refusal(Code.TOO_LARGE, "inflated size")
    except InvalidDicomError:
        return Refusal(Code.NOT_DICOM)
    # pydicom lets a dozen kinds of exceptions out of damaged files, RecursionError among them.
    except Exception as error:
        return Refusal(Code.NOT_DICOM if bare else Code.DAMAGED_HEADER, type(error).__name__)


def is_truncated(part10: Part10, frame_bytes: int, frames: int) -> bool:
    """Tells whether the file ends within its pixel data, without decoding them.

    Args:
        part10: A parsed file that has pixel data.
        frame_bytes: Size of one uncompressed frame.
        frames: (0028,0008) Number of Frames.
    """
    pixels = part10.pixels
    if pixels.length is not None:
        end = part10.file.seek(0, os.SEEK_END)
        return min(pixels.length, end - pixels.offset) < frame_bytes * frames
    items, _, cut = _walk_items(part10)
    # The offset table comes first, then at least one fragment per frame.
    return cut or items <= frames


def pixel_source(part10: Part10) -> BinaryIO | bytes:
    """Gives pydicom's decoders the pixel data to read from.

    Args:
        part10: A parsed file that has pixel data.

    Returns:
        The file at the value of the pixel data; or the bytes of the items, if what follows them
        is not the delimiter that pydicom insists on.
    """
    file, offset = part10.file, part10.pixels.offset
    if part10.pixels.length is None:
        _, end, _ = _walk_items(part10)
        file.seek(end)
        if file.read(4) != _SEQUENCE_END:
            file.seek(offset)
            return file.read(end - offset)
    file.seek(offset)
    return file


def _walk_items(part10: Part10) -> tuple[int, int, bool]:
    """Counts the items of encapsulated pixel data; tells their end, and if one is cut off."""
    file, position, items = part10.file, part10.pixels.offset, 0
    size = file.seek(0, os.SEEK_END)
    while True:
        file.seek(position)
        start = file.read(8)
        # The delimiter, or the pad byte that some writers leave out of an odd fragment's length.
        if len(start) < 8 or start[:4] != _ITEM:
            return items, position, False
        end = position + 8 + int.from_bytes(start[4:], "little")
        if end > size:
            return items, position, True
        position, items = end, items + 1


class _TooLargeError(Exception):
    pass


def _inflate(file: BinaryIO) -> BinaryIO:
    """Turns a deflated file into a plain one in memory; leaves any other as it is."""
    head = file.read(4096)
    file.seek(0)
    deflated = DeflatedExplicitVRLittleEndian.encode()
    if deflated not in head or head[_PREAMBLE : _PREAMBLE + 8] != b"\x02\x00\x00\x00UL\x04\x00":
        return file
    # (0002,0000) File Meta Information Group Length counts from behind itself.
    end = _PREAMBLE + 12 + int.from_bytes(head[_PREAMBLE + 8 : _PREAMBLE + 12], "little")
    meta = file.read(end)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    # pydicom inflates without a bound: 1.5 MB can become 3 GB.
    dataset = inflater.decompress(file.read(), _MAX_INFLATED_BYTES)
    file.close()
    if inflater.unconsumed_tail:
        raise _TooLargeError
    plain = ExplicitVRLittleEndian.encode().ljust(len(deflated), b"\0")
    return io.BytesIO(meta.replace(deflated, plain) + dataset)


def _complete_transfer_syntax(header: Dataset) -> None:
    """Notes the encoding that pydicom found by looking, where the file does not name it."""
    if "TransferSyntaxUID" in header.file_meta:
        return
    implicit, little_endian = header.original_encoding
    found = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else found


def _find_pixel_data(file: BinaryIO, header: Dataset) -> PixelData | None:
    """Parses the element at the file's position, where pydicom stopped."""
    implicit, little_endian = header.original_encoding
    order = "<" if little_endian else ">"
    start = file.read(8 if implicit else 12)
    if len(start) < (8 if implicit else 12):
        return None
    group, element = struct.unpack(f"{order}HH", start[:4])
    if group << 16 | element != _PIXEL_DATA:
        return None
    vr = None if implicit else start[4:6].decode("ascii")
    length = struct.unpack(f"{order}L", start[-4:])[0]
    encapsulated = UID(header.file_meta.TransferSyntaxUID).is_encapsulated
    return PixelData(file.tell(), None if encapsulated else length, vr)
