"""The elements of a little-endian header that lies in memory, most of them not converted.

pydicom's own generator takes three times as long, and an index of a hospital's export passes over
millions of elements. Those that describe the picture are the same in thousands of files: they are
converted once.
"""

import functools
import io
import struct

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from tf_dicom_ce.dicom.values import converted

_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_IMPLICIT = struct.Struct("<HHL").unpack_from
_LONG_LENGTH = struct.Struct("<L").unpack_from
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_CHARACTER_SET = 0x00080005
# By their bytes: the name, and whether the length has four bytes.
_VRS = {
    vr.value.encode(): (vr.value, vr in EXPLICIT_VR_LENGTH_32)
    for vr in EXPLICIT_VR_LENGTH_16 | EXPLICIT_VR_LENGTH_32
}
# What is asked of nearly every header, and is the same in many of them.
_SHARED = frozenset(
    (
        *(0x00080005, 0x00080016, 0x00081030, 0x00185010, 0x00186011, 0x00186031),
        *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030),
        *(0x00280034, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280301),
        *(0x00281050, 0x00281051, 0x00282110),
    )
)
_LARGEST_SHARED = 1 << 12  # bytes

_tag = functools.lru_cache(maxsize=1 << 12)(BaseTag)


class _UnusualError(Exception):
    """Something that is for pydicom to judge."""


def scan(data: bytes, position: int, implicit: bool, largest: int) -> tuple[Dataset, int] | None:
    """Finds the elements before the pixel data.

    Args:
        data: The first bytes of a file.
        position: Where its data set starts.
        implicit: Whether it is written in implicit VR.
        largest: Elements with more bytes are left out.

    Returns:
        The elements, which are not to be changed, and where (7FE0,0010) Pixel Data starts. None if
        it starts beyond `data`, or if anything before is unusual.
    """
    if implicit and data[position + 4 : position + 6] in _VRS:
        return None  # explicit, whatever the file says
    elements: dict[BaseTag, RawDataElement | DataElement] = {}
    last, encoding = 0, default_encoding
    try:
        while True:
            key, vr, length, start = _header(data, position, implicit)
            if key == _PIXEL_DATA:
                break
            end = _end(data, start, length, implicit)
            if key <= last or end > len(data):
                return None
            tag = _tag(key)
            if length == _UNDEFINED or (key in _SHARED and end - position <= _LARGEST_SHARED):
                parse = _shared if end - position <= _LARGEST_SHARED else _shared.__wrapped__
                elements[tag] = parse(data[position:end], implicit, encoding)
            elif length <= largest:
                value = data[start:end]
                elements[tag] = RawDataElement(tag, vr, length, value, start, implicit, True)
            if key == _CHARACTER_SET:
                encoding = tuple(convert_encodings(elements[tag].value))
            last, position = key, end
    except (_UnusualError, struct.error):
        return None
    dataset = Dataset(elements)
    encoding = encoding if isinstance(encoding, str) else list(encoding)
    dataset.set_original_encoding(implicit, True, encoding)
    return dataset, position


def _header(data: bytes, position: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """Tag, VR, length and start of the value of the element at `position`."""
    start = position + 8
    if implicit:
        group, number, length = _IMPLICIT(data, position)
        return group << 16 | number, None, length, start
    group, number, code, length = _EXPLICIT(data, position)
    if code not in _VRS:
        raise _UnusualError
    vr, is_long = _VRS[code]
    if is_long:
        length, start = _LONG_LENGTH(data, start)[0], start + 4
    return group << 16 | number, vr, length, start


def _end(data: bytes, position: int, length: int, implicit: bool) -> int:
    """Where a value ends that starts at `position`."""
    if length != _UNDEFINED:
        return position + length
    while True:
        group, number, length = _IMPLICIT(data, position)
        key, position = group << 16 | number, position + 8
        if key == _SEQUENCE_END:
            return position
        if key != _ITEM:
            raise _UnusualError
        position = _end_of_item(data, position, length, implicit)


def _end_of_item(data: bytes, position: int, length: int, implicit: bool) -> int:
    if length != _UNDEFINED:
        return position + length
    while True:
        group, number = _EXPLICIT(data, position)[:2]
        if group << 16 | number == _ITEM_END:
            return position + 8
        _, _, length, start = _header(data, position, implicit)
        position = _end(data, start, length, implicit)


@functools.lru_cache(maxsize=1 << 11)
def _shared(
    element: bytes, implicit: bool, encoding: str | tuple[str, ...]
) -> RawDataElement | DataElement:
    """Parses and converts the bytes of one element; leaves it raw if it is malformed."""
    encoding = encoding if isinstance(encoding, str) else list(encoding)
    (found,) = data_element_generator(io.BytesIO(element), implicit, True, encoding=encoding)
    return converted(found, encoding) if isinstance(found, RawDataElement) else found
