"""Group 0002 of a DICOM file, (0002,0010) Transfer Syntax UID above all."""

import functools
import struct
from typing import NamedTuple

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from tf_dicom_ce.dicom.values import converted

PREAMBLE = 132
_SYNTAX = 0x00020010
_LONG = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
# The transfer syntax of thousands of files is converted once.
_converted = functools.lru_cache(maxsize=1 << 8)(converted)


class FileMeta(NamedTuple):
    """The file meta information.

    Attributes:
        elements: Its elements by tag, none of them converted.
        end: Where the data set starts.
    """

    elements: dict[BaseTag, RawDataElement]
    end: int

    @property
    def syntax(self) -> bytes:
        """The Transfer Syntax UID with its padding; empty if there is none."""
        found = self.elements.get(BaseTag(_SYNTAX))
        return found.value if found else b""

    @property
    def uid(self) -> str:
        """The Transfer Syntax UID; empty if there is none."""
        return self.syntax.rstrip(b"\0 ").decode("latin-1")

    def to_dataset(self) -> FileMetaDataset:
        """The same as pydicom reads it, in a tenth of the time."""
        elements = dict(self.elements)
        syntax = elements.get(BaseTag(_SYNTAX))
        if syntax is not None:
            elements[syntax.tag] = _converted(syntax._replace(value_tell=0))
        return FileMetaDataset(Dataset(elements))


def parse(head: bytes) -> FileMeta:
    """Reads group 0002 from the first bytes of a file that has a preamble.

    The group is always in explicit VR little endian; its own length is not relied on.
    """
    position, elements = PREAMBLE, {}
    while head[position : position + 2] == b"\x02\x00" and position + 12 <= len(head):
        element, vr, length = struct.unpack_from("<H2sH", head, position + 2)
        start = position + 8
        if vr in _LONG:
            length, start = struct.unpack_from("<L", head, start)[0], start + 4
        position = start + length
        tag = BaseTag(0x00020000 | element)
        value = head[start:position]
        elements[tag] = RawDataElement(tag, vr.decode("latin-1"), length, value, start, False, True)
    return FileMeta(elements, position)
