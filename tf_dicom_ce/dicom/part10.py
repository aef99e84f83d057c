"""From the bytes of a file to a parsed header and the place of its pixel data."""

import dataclasses
import os
import re
import stat
import struct
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tf_dicom_ce.dicom import file_meta
from tf_dicom_ce.dicom.bounded import BoundedReader, TooLargeError, inflate
from tf_dicom_ce.dicom.file_meta import FileMeta
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.scanning import scan

# Nearly every header is shorter, and parses faster from memory.
_PREFIX = 1 << 16
# The largest element that describes an image is a palette of 2^16 entries of 2 bytes.
_MAX_ELEMENT = 1 << 18
# A data set without preamble begins with group 0002 or 0008, in either byte order.
_BARE_DATASET = re.compile(
    rb"\x02\x00[\x00-\x03]\x00|\x08\x00[\x00-\x20]\x00|\x00\x08\x00[\x00-\x20]"
)
_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
# A set, for tags of pydicom are slow to compare.
_ANY_PIXEL_DATA = frozenset((0x7FE00010, 0x7FE00009, 0x7FE00008))
NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@dataclasses.dataclass(frozen=True)
class PixelData:
    """Where the value of (7FE0,0010) Pixel Data lies; `length` None if it is undefined."""

    offset: int
    length: int | None
    vr: str | None


@dataclasses.dataclass(frozen=True)
class Part10:
    """An open DICOM file.

    Attributes:
        file: The bytes that `pixels.offset` refers to; inflated if the file was deflated.
        header: All elements before the pixel data, with a (0002,0010) Transfer Syntax UID;
            without those of more than 256 KiB.
        pixels: Where the pixel data are; None if the file ends before them.
        is_cut: True if it ends within an element of the header.
    """

    file: BinaryIO
    header: Dataset
    pixels: PixelData | None
    is_cut: bool


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
        head = file.read(_PREFIX)
        file.seek(0)
    except OSError as error:
        return Refusal(Code.OS_ERROR, type(error).__name__)
    bare = head[128 : file_meta.PREAMBLE] != b"DICM"
    if bare and not _BARE_DATASET.match(head):
        return Refusal(Code.NOT_DICOM)
    bounded = None
    try:
        if not bare and DeflatedExplicitVRLittleEndian.encode() in head[:4096]:
            file = inflate(file)
            head = file.read(_PREFIX)
            file.seek(0)
        bounded = BoundedReader(file)
        meta = None if bare else file_meta.parse(head)
        return _scan(file, head, meta) or _parse(file, bounded, head, meta)
    except TooLargeError:
        return Refusal(Code.TOO_LARGE, "header or inflated size")
    except InvalidDicomError:
        return Refusal(Code.NOT_DICOM)
    # pydicom lets a dozen kinds of exceptions out of damaged files, RecursionError among them.
    except Exception as error:
        if bounded is not None and bounded.exhausted:
            return Refusal(Code.TOO_LARGE, "header or inflated size")
        return Refusal(Code.NOT_DICOM if bare else Code.DAMAGED_HEADER, type(error).__name__)


def _scan(file: BinaryIO, head: bytes, meta: FileMeta | None) -> Part10 | None:
    """Finds the elements of a usual header, which ends within the first bytes; else None."""
    if meta is None or meta.uid in ("", ExplicitVRBigEndian):
        return None
    try:
        found = scan(head, meta.end, meta.uid == ImplicitVRLittleEndian, _MAX_ELEMENT)
    # A sequence may be malformed in any way.
    except Exception:
        return None
    if found is None:
        return None
    dataset, position = found
    header = _with_meta(dataset, head, meta)
    file.seek(position)
    return Part10(file, header, _find_pixel_data(file, header), is_cut=False)


def _parse(file: BinaryIO, reader: BoundedReader, head: bytes, meta: FileMeta | None) -> Part10:
    """Has pydicom parse the header from `reader`, which stands for `file`."""
    suspects = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if length > _MAX_ELEMENT:
            suspects.append(tag)
        return tag in _ANY_PIXEL_DATA

    # What follows may be damaged, or elements of a network message.
    if meta is None or not meta.uid or head[meta.end : meta.end + 2] in (b"", b"\0\0"):
        header = read_partial(reader, stop, defer_size=_MAX_ELEMENT, force=meta is None)
        header.buffer = None
    else:  # as `read_partial` does it, but for the group's own length
        implicit = meta.uid == ImplicitVRLittleEndian
        little_endian = meta.uid != ExplicitVRBigEndian
        reader.seek(meta.end)
        dataset = read_dataset(reader, implicit, little_endian, None, stop, _MAX_ELEMENT)
        header = _with_meta(dataset, head, meta)
    for tag in suspects:
        # pydicom would read these from the file at the first access.
        if tag in header and header.get_item(tag, keep_deferred=True).value is None:
            del header[tag]
    _complete_transfer_syntax(header)
    pixels = _find_pixel_data(reader, header)
    return Part10(file, header, pixels, pixels is None and _is_cut(reader, header))


def _with_meta(dataset: Dataset, head: bytes, meta: FileMeta) -> FileDataset:
    """A data set in the encoding that was found, whatever the transfer syntax says."""
    implicit, little_endian = dataset.original_encoding
    header = FileDataset(None, dataset, head[:128], meta.to_dataset(), implicit, little_endian)
    header.set_original_encoding(implicit, little_endian, dataset.original_character_set)
    header.buffer = None
    return header


def _complete_transfer_syntax(header: Dataset) -> None:
    """Notes the encoding that pydicom found by looking, where the file does not name it."""
    if "TransferSyntaxUID" in header.file_meta:
        return
    implicit, little_endian = header.original_encoding
    found = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else found


def _is_cut(reader: BoundedReader, header: Dataset) -> bool:
    """Tells whether the bytes end elsewhere than the last element that they hold."""
    end, size = reader.tell(), reader.seek(0, os.SEEK_END)
    last = header.get_item(list(header.keys())[-1], keep_deferred=True) if header else None
    if end != size or not isinstance(last, RawDataElement):
        return end > size  # a large element was skipped
    return last.value_tell + last.length != size


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
    return PixelData(file.tell(), None if length == _UNDEFINED else length, vr)
