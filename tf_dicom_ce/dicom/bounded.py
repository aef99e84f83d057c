"""Reading no more of a file than a header can reasonably need."""

import io
import zlib
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tf_dicom_ce.dicom import file_meta

_MAX_HEADER_BYTES = 1 << 26
# Each element takes two or three; ten thousand are common with per-frame sequences.
_MAX_HEADER_READS = 150_000
_MAX_INFLATED_BYTES = 1 << 27
_CHUNK = 1 << 16


class TooLargeError(Exception):
    """The header, or what a deflated file inflates to, is beyond all reason."""


class BoundedReader:
    """A file of which only a limited amount can be read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes, self._reads = _MAX_HEADER_BYTES, _MAX_HEADER_READS
        self.seek, self.tell = file.seek, file.tell

    @property
    def exhausted(self) -> bool:
        """True if more was asked for than may be read; pydicom turns the error into another."""
        return self._bytes < 0 or self._reads < 0

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes; raises `TooLargeError` if it becomes too much."""
        if size < 0:
            raise TooLargeError
        data = self._file.read(min(size, self._bytes + 1))
        self._bytes -= len(data)
        self._reads -= 1
        if self.exhausted:
            raise TooLargeError
        return data


def inflate(file: BinaryIO) -> BinaryIO:
    """Turns a deflated file into a plain one in memory; leaves any other as it is.

    Args:
        file: A DICOM file with preamble, at its start; closed if it is deflated.

    Raises:
        TooLargeError: It inflates to more than 128 MiB.
        zlib.error: Damaged.
    """
    head = file.read(4096)
    file.seek(0)
    meta = file_meta.parse(head)
    if meta.uid != DeflatedExplicitVRLittleEndian:
        return file
    plain, native = io.BytesIO(), ExplicitVRLittleEndian.encode().ljust(len(meta.syntax), b"\0")
    plain.write(file.read(meta.end).replace(meta.syntax, native))
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
            raise TooLargeError
        plain.write(data)
    file.close()
    plain.seek(0)
    return plain
