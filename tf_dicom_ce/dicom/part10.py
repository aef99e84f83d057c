"""Parses the header of a file, and finds its pixel data."""

import contextlib
import functools
import io
import os
import re
import stat
import struct
import zlib
from typing import BinaryIO, NamedTuple

from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian as _Deflated
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from tf_dicom_ce.dicom.refusals import Code, Refusal

# Nearly every header is shorter; from memory it is parsed faster.
_PREFIX = 1 << 16
_MAX_HEADER_BYTES = 1 << 26
# An element takes two or three reads; per-frame sequences often have ten thousand elements.
_MAX_HEADER_READS = 150_000
_MAX_INFLATED_BYTES = 1 << 27
_CHUNK = 1 << 16
# The largest element that describes an image is a palette of 2^16 entries of 2 bytes.
_MAX_ELEMENT = 1 << 18
# A data set without preamble begins with group 0002 or 0008, in either byte order.
_BARE_DATASET = re.compile(
    rb"\x02\x00[\x00-\x03]\x00|\x08\x00[\x00-\x20]\x00|\x00\x08\x00[\x00-\x20]"
)
_PREAMBLE = 132
_SYNTAX = 0x00020010
_LONG = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
# A set, because pydicom's tags are slow to compare.
_ANY_PIXEL_DATA = frozenset((0x7FE00010, 0x7FE00009, 0x7FE00008))
# Elements that nearly every header has, often with the same value.
_SHARED = frozenset(
    (
        *(0x00020010, 0x00080005, 0x00080016, 0x00081030, 0x00185010, 0x00186011, 0x00186031),
        *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030),
        *(0x00280034, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280301),
        *(0x00281050, 0x00281051, 0x00282110),
    )
)
_LARGEST_SHARED = 1 << 12  # bytes
_Elements = dict[BaseTag, DataElement | RawDataElement]
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, _Deflated)


class PixelData(NamedTuple):
    """Position of the value of (7FE0,0010) Pixel Data; `length` is None if undefined."""

    offset: int
    length: int | None
    vr: str | None


class Part10(NamedTuple):
    """An open DICOM file."""

    file: BinaryIO  # the bytes that `pixels.offset` refers to; inflated if the file was deflated
    # All elements before the pixel data, except those of more than 256 KiB. It always has a
    # (0002,0010) Transfer Syntax UID.
    header: Dataset
    pixels: PixelData | None  # None if the file ends before the pixel data
    is_cut: bool  # True if it ends within an element of the header


def open_regular(path: str | os.PathLike[str]) -> BinaryIO | Refusal:
    """Opens a regular file; follows no link, and does not wait for the writer of a FIFO."""
    try:
        # A device may react to being opened: look first.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return Refusal(Code.NOT_REGULAR)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return os.fdopen(descriptor, "rb")
    except (OSError, ValueError) as error:
        return Refusal(Code.OS_ERROR, type(error).__name__)


class _TooLargeError(Exception):
    """The header, or the inflated file, is far too large."""


class _BoundedReader:
    """A file that ends reading with an error after a limited amount.

    pydicom may replace that error by another one; `exhausted` stays True.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.exhausted = file, False
        self._bytes, self._reads = _MAX_HEADER_BYTES, _MAX_HEADER_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._bytes + 1)) if size >= 0 else b""
        self._bytes, self._reads = self._bytes - len(data), self._reads - 1
        if size < 0 or self._bytes < 0 or self._reads < 0:
            self.exhausted = True
            raise _TooLargeError
        return data


def parse(file: BinaryIO) -> Part10 | Refusal:
    """Reads the header of a seekable file from its start; closes a deflated file."""
    try:
        head = file.read(_PREFIX)
    except OSError as error:
        return Refusal(Code.OS_ERROR, type(error).__name__)
    bare = head[128:_PREAMBLE] != b"DICM"
    if bare and not _BARE_DATASET.match(head):
        return Refusal(Code.NOT_DICOM)
    bounded = None
    try:
        if not bare and _Deflated.encode() in head[:4096]:
            file = _inflate(file, head)
            head = file.read(_PREFIX)
        with contextlib.suppress(Exception):
            opened = _parse(file, io.BytesIO(head), head, bare)
            if opened.pixels is not None:
                return opened
        bounded = _BoundedReader(file)
        return _parse(file, bounded, head, bare)
    except InvalidDicomError:
        return Refusal(Code.NOT_DICOM)
    # Damaged files raise a dozen kinds of exceptions in pydicom, RecursionError among them.
    except Exception as error:
        if isinstance(error, _TooLargeError) or (bounded and bounded.exhausted):
            return Refusal(Code.TOO_LARGE, "header or inflated size")
        return Refusal(Code.NOT_DICOM if bare else Code.DAMAGED_HEADER, type(error).__name__)


def _parse(file: BinaryIO, reader: BinaryIO | _BoundedReader, head: bytes, bare: bool) -> Part10:
    """Parses the header with pydicom from `reader`, a view of `file`."""
    suspects = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if length > _MAX_ELEMENT:
            suspects.append(tag)
        return tag in _ANY_PIXEL_DATA

    meta, syntax, start = ({}, "", 0) if bare else _read_meta(head)
    # The rest may be damaged, or elements of a network message: leave it to pydicom.
    if not syntax or head[start : start + 2] in (b"", b"\0\0"):
        reader.seek(0)
        header = read_partial(reader, stop, defer_size=_MAX_ELEMENT, force=bare)
    else:  # as `read_partial`, but in the encoding found, whatever `syntax` says
        reader.seek(start)
        implicit, little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dataset = read_dataset(reader, implicit, little_endian, None, stop, _MAX_ELEMENT)
        meta = FileMetaDataset(_shared(meta, default_encoding))
        encoding, charset = dataset.original_encoding, dataset.original_character_set
        elements = _shared(dict(dataset.items()), charset)
        header = FileDataset(None, elements, head[:128], meta, *encoding)
        header.set_original_encoding(*encoding, charset)
    header.buffer = None
    for tag in suspects:
        # At the first access pydicom would read these from the file.
        if tag in header and header.get_item(tag, keep_deferred=True).value is None:
            del header[tag]
    if "TransferSyntaxUID" not in header.file_meta:  # take the encoding that pydicom found
        implicit, little_endian = header.original_encoding
        explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    pixels = _find_pixel_data(reader, header)
    return Part10(file, header, pixels, pixels is None and _is_cut(reader, header))


def _read_meta(head: bytes) -> tuple[_Elements, str, int]:
    """Reads group 0002 from the first bytes of a file, its Transfer Syntax UID, and its end.

    It ignores the group's own length. Unknown VRs are explicit here, but implicit in pydicom.
    """
    position, elements = _PREAMBLE, {}
    while head[position : position + 2] == b"\x02\x00" and position + 12 <= len(head):
        number, vr, length = struct.unpack_from("<H2sH", head, position + 2)
        start = position + 8
        if vr in _LONG:
            length, start = struct.unpack_from("<L", head, start)[0], start + 4
        position = start + length
        tag, value = BaseTag(0x00020000 | number), head[start:position]
        elements[tag] = RawDataElement(tag, vr.decode("latin-1"), length, value, start, False, True)
    syntax = elements[_SYNTAX].value if _SYNTAX in elements else b""
    return elements, syntax.rstrip(b"\0 ").decode("latin-1"), position


def _shared(elements: _Elements, charset: str | list[str]) -> _Elements:
    """Converts elements that many files share only once; leaves the last element raw."""
    charset = charset if isinstance(charset, str) else tuple(charset)
    for tag in list(elements)[:-1]:
        raw = elements[tag]
        if tag in _SHARED and isinstance(raw, RawDataElement) and raw.length <= _LARGEST_SHARED:
            elements[tag] = _converted(raw._replace(value_tell=0), charset)
    return elements


@functools.lru_cache(maxsize=1 << 11)
def _converted(raw: RawDataElement, charset: str | tuple[str, ...]) -> DataElement | RawDataElement:
    """Converts an element; a malformed one stays raw, and raises when it is read."""
    encoding = charset if isinstance(charset, str) else list(charset)
    try:
        return convert_raw_data_element(raw, encoding=encoding)
    except Exception:
        return raw


def _inflate(file: BinaryIO, head: bytes) -> BinaryIO:
    """Inflates a deflated file into memory and closes it; returns any other file as it is."""
    _, syntax, end = _read_meta(head)
    file.seek(0)
    if syntax != _Deflated:
        return file
    native = ExplicitVRLittleEndian.ljust(len(_Deflated), "\0")
    plain = io.BytesIO()
    plain.write(file.read(end).replace(_Deflated.encode(), native.encode()))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    # 1.5 MB can become 3 GB, and 100 GB can become nothing: limit both.
    left_in = left_out = _MAX_INFLATED_BYTES
    while not inflater.eof:
        chunk = inflater.unconsumed_tail or file.read(_CHUNK)
        if not chunk:
            break
        fresh = 0 if inflater.unconsumed_tail else len(chunk)
        data = inflater.decompress(chunk, _CHUNK)
        left_in, left_out = left_in - fresh, left_out - len(data)
        if left_in < 0 or left_out < 0:
            raise _TooLargeError
        plain.write(data)
    file.close()
    plain.seek(0)
    return plain


def _is_cut(reader: BinaryIO | _BoundedReader, header: Dataset) -> bool:
    """Tells whether the file does not end where its last element ends."""
    end, size = reader.tell(), reader.seek(0, os.SEEK_END)
    last = header.get_item(list(header.keys())[-1], keep_deferred=True) if header else None
    if end != size or not isinstance(last, RawDataElement):
        return end > size  # a large element was skipped
    return last.value_tell + last.length != size


def _find_pixel_data(file: BinaryIO, header: Dataset) -> PixelData | None:
    """Reads the element at the file's position, where pydicom stopped."""
    implicit, little_endian = header.original_encoding
    order = "<" if little_endian else ">"
    size = 8 if implicit else 12
    start = file.read(size)
    if len(start) < size or struct.unpack(f"{order}HH", start[:4]) != _PIXEL_DATA:
        return None
    vr = None if implicit else start[4:6].decode("ascii")
    length = struct.unpack(f"{order}L", start[-4:])[0]
    return PixelData(file.tell(), None if length == _UNDEFINED else length, vr)
