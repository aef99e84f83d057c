"""From the bytes of a file to a parsed header and the place of its pixel data."""

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
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian as _Deflated
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from tf_dicom_ce.dicom.refusals import Code, Refusal

# Nearly every header is shorter, and parses faster from memory.
_PREFIX = 1 << 16
_MAX_HEADER_BYTES = 1 << 26
# Each element takes two or three; ten thousand are common with per-frame sequences.
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
# A set, for tags of pydicom are slow to compare.
_ANY_PIXEL_DATA = frozenset((0x7FE00010, 0x7FE00009, 0x7FE00008))
# What is asked of nearly every header, and is the same in many of them.
_SHARED = frozenset(
    (
        *(0x00020010, 0x00080005, 0x00080016, 0x00081030, 0x00185010, 0x00186011, 0x00186031),
        *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030),
        *(0x00280034, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280301),
        *(0x00281050, 0x00281051, 0x00282110),
    )
)
_LARGEST_SHARED = 1 << 12  # bytes
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, _Deflated)


class PixelData(NamedTuple):
    """Where the value of (7FE0,0010) Pixel Data lies; `length` None if it is undefined."""

    offset: int
    length: int | None
    vr: str | None


class Part10(NamedTuple):
    """An open DICOM file."""

    file: BinaryIO  # the bytes that `pixels.offset` refers to; inflated if the file was deflated
    # All elements before the pixel data, with a (0002,0010) Transfer Syntax UID; without those of
    # more than 256 KiB.
    header: Dataset
    pixels: PixelData | None  # where the pixel data are; None if the file ends before them
    is_cut: bool  # True if it ends within an element of the header


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


class _TooLargeError(Exception):
    """The header, or what a deflated file inflates to, is beyond all reason."""


class _BoundedReader:
    """A file of which only a limited amount can be read; pydicom may turn its error into another.

    So `exhausted` tells, too, that more was asked for.
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
    """Reads the header of a seekable file at its start, which is closed here if it is deflated."""
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
    # pydicom lets a dozen kinds of exceptions out of damaged files, RecursionError among them.
    except Exception as error:
        if isinstance(error, _TooLargeError) or (bounded and bounded.exhausted):
            return Refusal(Code.TOO_LARGE, "header or inflated size")
        return Refusal(Code.NOT_DICOM if bare else Code.DAMAGED_HEADER, type(error).__name__)


def _parse(file: BinaryIO, reader: BinaryIO | _BoundedReader, head: bytes, bare: bool) -> Part10:
    """Has pydicom parse the header from `reader`, which stands for `file`."""
    suspects = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if length > _MAX_ELEMENT:
            suspects.append(tag)
        return tag in _ANY_PIXEL_DATA

    meta, syntax, start = (None, "", 0) if bare else _read_meta(head)
    # What follows may be damaged, or elements of a network message.
    if not syntax or head[start : start + 2] in (b"", b"\0\0"):
        reader.seek(0)
        header = read_partial(reader, stop, defer_size=_MAX_ELEMENT, force=bare)
    else:  # as `read_partial` does it, but in the encoding that is found, whatever `syntax` says
        reader.seek(start)
        implicit, little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        dataset = read_dataset(reader, implicit, little_endian, None, stop, _MAX_ELEMENT)
        meta = FileMetaDataset(_shared(meta))
        encoding, charset = dataset.original_encoding, dataset.original_character_set
        header = FileDataset(None, _shared(dataset), head[:128], meta, *encoding)
        header.set_original_encoding(*encoding, charset)
    header.buffer = None
    for tag in suspects:
        # pydicom would read these from the file at the first access.
        if tag in header and header.get_item(tag, keep_deferred=True).value is None:
            del header[tag]
    if "TransferSyntaxUID" not in header.file_meta:  # what pydicom found by looking
        implicit, little_endian = header.original_encoding
        explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    pixels = _find_pixel_data(reader, header)
    return Part10(file, header, pixels, pixels is None and _is_cut(reader, header))


def _read_meta(head: bytes) -> tuple[Dataset, str, int]:
    """Group 0002 from the first bytes of a file, its Transfer Syntax UID, and where it ends.

    Its own length is not relied on, nor are unknown VRs, which pydicom takes for implicit ones.
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
    return Dataset(elements), syntax.rstrip(b"\0 ").decode("latin-1"), position


def _shared(dataset: Dataset) -> Dataset:
    """Converts elements that are the same in thousands of files once; not the last element."""
    elements, charset = dict(dataset.items()), dataset.original_character_set
    charset = charset if isinstance(charset, str) else tuple(charset)
    for tag in list(elements)[:-1]:
        raw = elements[tag]
        if tag in _SHARED and isinstance(raw, RawDataElement) and raw.length <= _LARGEST_SHARED:
            elements[tag] = _converted(raw._replace(value_tell=0), charset)
    return Dataset(elements)


@functools.lru_cache(maxsize=1 << 11)
def _converted(raw: RawDataElement, charset: str | tuple[str, ...]) -> DataElement | RawDataElement:
    """Leaves a malformed element raw: the error is raised when it is read."""
    encoding = charset if isinstance(charset, str) else list(charset)
    try:
        return convert_raw_data_element(raw, encoding=encoding)
    except Exception:
        return raw


def _inflate(file: BinaryIO, head: bytes) -> BinaryIO:
    """Turns a deflated file into a plain one in memory, and closes it; any other stays as it is."""
    _, syntax, end = _read_meta(head)
    file.seek(0)
    if syntax != _Deflated:
        return file
    native = ExplicitVRLittleEndian.ljust(len(_Deflated), "\0")
    plain = io.BytesIO()
    plain.write(file.read(end).replace(_Deflated.encode(), native.encode()))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    # 1.5 MB can become 3 GB, and 100 GB nothing at all.
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
    size = 8 if implicit else 12
    start = file.read(size)
    if len(start) < size or struct.unpack(f"{order}HH", start[:4]) != _PIXEL_DATA:
        return None
    vr = None if implicit else start[4:6].decode("ascii")
    length = struct.unpack(f"{order}L", start[-4:])[0]
    return PixelData(file.tell(), None if length == _UNDEFINED else length, vr)
