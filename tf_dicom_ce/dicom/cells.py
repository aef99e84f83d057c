"""Which bits of a pixel cell are its value: PS3.5 section 8.1.1."""

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.values import value

_STORED, _HIGH_BIT = Tag("BitsStored"), Tag("HighBit")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


def high_bit(header: Dataset) -> int:
    """(0028,0102) High Bit; (0028,0101) Bits Stored - 1 if it is absent."""
    found = value(header, _HIGH_BIT)
    return int(value(header, _STORED)) - 1 if found is None else int(found)


def values_of(cells: np.ndarray, header: Dataset) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Takes the values out of cells of (0028,0100) Bits Allocated.

    They are the (0028,0101) Bits Stored up to (0028,0102) High Bit. If High Bit is not Bits
    Stored - 1 and no cell has a bit above Bits Stored, High Bit is wrong.

    Args:
        cells: Integers of any shape.
        header: For Bits Stored, High Bit and the overlays.

    Returns:
        The values, of the same type and shape; and a flag if other bits are set, unless it is an
        overlay plane that sets them.
    """
    stored, high = int(value(header, _STORED)), high_bit(header)
    size = 8 * cells.itemsize
    if stored >= size:
        return cells, ()
    if not stored <= high + 1 <= size or bits_of(cells) <= stored:
        high = stored - 1
    # Up to the top and down again, so that the highest bit gives the sign.
    values = (cells << (size - 1 - high)) >> (size - stored)
    others = cells.dtype.kind == "u" and np.any(values << (high + 1 - stored) != cells)
    is_flagged = others and not _has_embedded_overlay(header)
    return values, (Flag.UNUSED_BITS,) * bool(is_flagged)


def bits_of(values: np.ndarray) -> int:
    """How many bits the values need, the sign among them."""
    low, high = int(values.min()), int(values.max())
    return max(high.bit_length(), (~min(low, 0)).bit_length()) + (values.dtype.kind == "i")


def _has_embedded_overlay(header: Dataset) -> bool:
    """A plane with (60xx,0102) Overlay Bit Position and no (60xx,3000) Overlay Data."""
    return any(
        group << 16 | 0x0102 in header and group << 16 | 0x3000 not in header
        for group in _OVERLAY_GROUPS
    )
