"""Turns stored pixel values into 8-bit gray levels."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydicom import DataElement, Dataset
from pydicom.pixels import apply_color_lut
from pydicom.pixels.processing import apply_windowing
from pydicom.tag import BaseTag, Tag

from tf_dicom_ce.dicom import decoders
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import value

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")
PALETTE = "PALETTE COLOR"
ONE_SAMPLE = (*MONOCHROME, PALETTE)
# The JPEG 2000 decoder returns YBR_ICT and YBR_RCT as RGB.
SUPPORTED = (*ONE_SAMPLE, *LUMA_FIRST, "RGB", "YBR_ICT", "YBR_RCT")

_MODALITY, _VOI = Tag("ModalityLUTSequence"), Tag("VOILUTSequence")
_WIDTH, _FUNCTION = Tag("WindowWidth"), Tag("VOILUTFunction")
_STORED, _SIGNED = Tag("BitsStored"), Tag("PixelRepresentation")
_PHOTOMETRIC, _SLOPE = Tag("PhotometricInterpretation"), Tag("RescaleSlope")
# PS3.3 C.11.2.1.3: function -> width, above which the window is more than a threshold.
_FUNCTIONS = {"LINEAR": 1.0, "LINEAR_EXACT": 0.0, "SIGMOID": 0.0}


class Table(NamedTuple):
    """A Modality or VOI lookup table, PS3.3 C.11.1.1 and C.11.2.1.1."""

    entries: np.ndarray  # integers
    first: int  # the value that is mapped to the first entry
    bits: int  # of an entry

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Looks up values; those beyond an end get the entry of that end.

        pydicom's functions wrap around if the values need more bits than the entries.
        """
        places = np.rint(values).astype(np.int64) - self.first
        return self.entries[np.clip(places, 0, len(self.entries) - 1)]


def to_grayscale(values: np.ndarray, photometric: str, bits: int, dataset: Dataset) -> np.ndarray:
    """Turns one decoded frame into gray levels, (H, W) uint8, 0 black to 255 white.

    Args:
        values: (H, W) or (H, W, 3) integers as stored, any byte order.
        photometric: (0028,0004) Photometric Interpretation of `values`, one of `SUPPORTED`; may
            differ from the data set's, as some decoders convert colours.
        bits: Bits of a value; differs from a wrong (0028,0101) Bits Stored.
        dataset: The header, for palette, lookup tables and window.

    Raises:
        ValueError: The palette is malformed, or the shape does not fit the interpretation.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 2 and photometric == PALETTE:
        return _palette_to_luma(values, dataset)
    if values.ndim == 2 and photometric in MONOCHROME:
        levels, padding = _monochrome(values, bits, dataset)
        if photometric == "MONOCHROME1":
            levels = 255 - levels
        return levels if padding is None else np.where(padding, np.uint8(0), levels)
    if values.ndim == 3 and values.shape[2] == 3 and photometric in (*LUMA_FIRST, "RGB"):
        channels = values[..., 0] if photometric in LUMA_FIRST else values
        if bits > 8:
            channels = channels >> (bits - 8)
        channels = channels.astype(np.uint8, copy=False)
        return channels if photometric in LUMA_FIRST else luma(channels)
    raise ValueError("samples per pixel do not fit the photometric interpretation")


def _is_8_bit(dataset: Dataset) -> bool:
    """Tells whether stored monochrome values already are gray levels."""
    with contextlib.suppress(Exception):  # absent, empty, or malformed in any way
        if value(dataset, _SLOPE) < 0:
            return False  # inverts; a positive slope leaves 8 bits as they are
    if dataset.file_meta.TransferSyntaxUID in decoders.JPEG:
        return value(dataset, _STORED) <= 8
    return value(dataset, _STORED) == 8 and not value(dataset, _SIGNED)


def _transforms(
    dataset: Dataset,
) -> tuple[Table | None, Table | None, Dataset | None, tuple[Flag, ...]]:
    """Returns the usable Modality LUT, VOI LUT, or else window; and flags of what is applied."""
    if not any(tag in dataset for tag in (_MODALITY, _VOI, _WIDTH)):
        return None, None, None, ()
    modality, voi = _table_at(dataset, _MODALITY), _table_at(dataset, _VOI)
    window = None if voi else _window(dataset)
    asked = ((_MODALITY, modality), (_VOI, voi), (_WIDTH, voi or window))
    flags = {
        Flag.MODALITY_LUT: modality,
        Flag.VOI_LUT: voi,
        Flag.WINDOWED: window,
        Flag.UNUSABLE_LUT: any(not found and _is_given(dataset, tag) for tag, found in asked),
    }
    return modality, voi, window, tuple(flag for flag, is_so in flags.items() if is_so)


def monochrome_flags(dataset: Dataset) -> Iterator[Flag]:
    """Yields the flags of the conversion of monochrome values that the header determines."""
    modality, voi, window, flags = _transforms(dataset)
    yield from flags
    if not (voi or window or (modality.bits == 8 if modality else _is_8_bit(dataset))):
        yield Flag.MIN_MAX
    if value(dataset, _PHOTOMETRIC) == "MONOCHROME1":
        yield Flag.INVERTED


def luma(rgb: np.ndarray) -> np.ndarray:
    """Returns the ITU-R 601 luma of (H, W, 3) uint8."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def _monochrome(
    stored: np.ndarray, bits: int, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray | None]:
    """Applies the header's transforms, or else stretches the range of the values.

    Returns:
        The levels, and where padding is, or None. Padding is no tissue: the range ignores it.
    """
    modality, voi, window, _ = _transforms(dataset)
    is_level = _is_8_bit(dataset) and bits == 8
    if is_level and modality is voi is window is None:
        return stored.astype(np.uint8, copy=False), None
    padding = _padding(stored, dataset)
    if modality is not None:
        values, is_level = modality.look_up(stored), modality.bits == 8
    else:
        slope, intercept = (_first_number(dataset, f"Rescale{k}") for k in ("Slope", "Intercept"))
        values = stored * (1.0 if slope is None else slope) + (intercept or 0.0)
    if voi is not None:
        levels = voi.look_up(values) * (255 / (2**voi.bits - 1))
    elif window is not None:
        levels = apply_windowing(values, window)
    elif is_level:
        levels = values
    else:
        inside = values if padding is None else values[~padding]
        low, high = (inside.min(), inside.max()) if inside.size else (0.0, 0.0)
        levels = np.clip((values - float(low)) / max(float(high) - float(low), 1), 0, 1) * 255
    return np.rint(levels).astype(np.uint8), padding


def _window(dataset: Dataset) -> Dataset | None:
    """Returns the first usable window, for pydicom, with levels of 0 to 255.

    A linear window of width 1 is a threshold, which makes no sense for ultrasound.
    """
    try:
        center, width = (_first_number(dataset, k) for k in ("WindowCenter", "WindowWidth"))
        function = str(value(dataset, _FUNCTION) or "LINEAR").upper()
        if not (np.isfinite(center) and _FUNCTIONS[function] < width < np.inf):
            return None
        window = Dataset()
        window.PhotometricInterpretation = "MONOCHROME2"
        window.BitsStored, window.PixelRepresentation = 8, 0
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
        return window
    # A number is absent or malformed in any way, or the function is unknown.
    except Exception:
        return None


def _is_given(dataset: Dataset, tag: BaseTag) -> bool:
    """Tells whether an element has a value, even a malformed one."""
    try:
        return tag in dataset and not dataset[tag].is_empty
    except Exception:
        return True


def _table_at(dataset: Dataset, tag: BaseTag) -> Table | None:
    """Returns the first table of a sequence, or None if it is unusable."""
    try:
        items = value(dataset, tag)
        if not items:
            return None
        count, first, bits = (int(number) for number in items[0].LUTDescriptor)
        # 2^16 is written as 0; from 2^15 on it may have been read as a negative number.
        data, count = items[0]["LUTData"], count % (1 << 16) or 1 << 16
        if isinstance(data.value, bytes):
            entries = _table(data, count, dataset.original_encoding[1]).astype(np.int64)
        else:
            entries = np.array(data.value, np.int64).reshape(-1)[:count]
        is_whole = len(entries) == count and 0 < bits <= 16 and entries.max() < 1 << bits
        return Table(entries, first, bits) if is_whole else None
    # A malformed element may raise anything in pydicom.
    except Exception:
        return None


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Finds (0028,0120) Pixel Padding Value, up to (0028,0121) its Range Limit."""
    value = _first_number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _first_number(dataset, "PixelPaddingRangeLimit")
    ends = (value, value if limit is None else limit)
    return (stored >= min(ends)) & (stored <= max(ends))


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    # Several windows are alternatives; the first one is the default.
    return float(value if isinstance(value, (int, float)) else value[0])


def _palette_to_luma(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Looks up palette indices, (0028,1101-1203) and (0028,1221-1223)."""
    descriptor = dataset.RedPaletteColorLookupTableDescriptor
    entries, first = int(descriptor[0]) or 2**16, int(descriptor[1])
    if "RedPaletteColorLookupTableData" in dataset:
        little_endian = dataset.original_encoding[1]
        tables = [
            _table(dataset[f"{c}PaletteColorLookupTableData"], entries, little_endian)
            for c in ("Red", "Green", "Blue")
        ]
        rgb = np.stack(tables, axis=-1)
    else:
        indices = np.arange(entries, dtype=np.int32) + first
        rgb = apply_color_lut(indices, dataset)[:, :3]
    # Some devices announce 16 bits, but use the low byte only.
    if rgb.dtype != np.uint8 and rgb.max() > 255:
        rgb = rgb >> 8
    table = luma(rgb.astype(np.uint8)[None])[0]
    return table[np.clip(stored.astype(np.int32) - first, 0, entries - 1)]


def _table(element: DataElement, entries: int, little_endian: bool) -> np.ndarray:
    """Reads a table, such as a channel of the palette; 8-bit entries may be padded."""
    data = element.value
    wide = len(data) >= 2 * entries
    dtype = ("<u2" if little_endian else ">u2") if wide else "u1"
    if not wide and not little_endian and element.VR == "OW":
        data = np.frombuffer(data, "u2").byteswap().tobytes()
    return np.frombuffer(data, dtype=dtype, count=entries)
