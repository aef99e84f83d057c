"""Stored pixel values to 8-bit gray levels."""

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.pixels import apply_color_lut

from tf_dicom_ce.dicom import decoders

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")
PALETTE = "PALETTE COLOR"
# YBR_ICT and YBR_RCT leave the JPEG 2000 decoder as RGB.
SUPPORTED = (*MONOCHROME, *LUMA_FIRST, PALETTE, "RGB", "YBR_ICT", "YBR_RCT")


def to_grayscale(stored: np.ndarray, photometric: str, dataset: Dataset) -> np.ndarray:
    """Turns one decoded frame into gray levels.

    Args:
        stored: (H, W) or (H, W, 3) integers as stored, any byte order.
        photometric: (0028,0004) Photometric Interpretation of `stored`, one of `SUPPORTED`; may
            differ from the data set's, as some decoders convert colours.
        dataset: The header, for the palette, the window and (0028,0101) Bits Stored.

    Returns:
        (H, W) uint8, 0 black to 255 white.

    Raises:
        ValueError: The palette is malformed, or the shape does not fit the interpretation.
    """
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if stored.ndim == 2 and photometric == PALETTE:
        return _palette_to_luma(stored, dataset)
    if stored.ndim == 2 and photometric in MONOCHROME:
        if is_8_bit(dataset):
            levels, padding = stored.astype(np.uint8, copy=False), None
        else:
            levels, padding = _to_8_bits(stored, dataset)
        if photometric == "MONOCHROME1":
            levels = 255 - levels
        return levels if padding is None else np.where(padding, np.uint8(0), levels)
    if stored.ndim == 3 and stored.shape[2] == 3 and photometric in (*LUMA_FIRST, "RGB"):
        channels = stored[..., 0] if photometric in LUMA_FIRST else stored
        bits = decoders.stored_bits(dataset)
        if bits > 8:
            channels = channels >> (bits - 8)
        channels = channels.astype(np.uint8, copy=False)
        return channels if photometric in LUMA_FIRST else luma(channels)
    raise ValueError("samples per pixel do not fit the photometric interpretation")


def is_8_bit(dataset: Dataset) -> bool:
    """True if the stored values of monochrome are gray levels as they are."""
    if dataset.file_meta.TransferSyntaxUID in decoders.JPEG:
        return True
    return dataset.BitsStored == 8 and not dataset.get("PixelRepresentation")


def window(dataset: Dataset) -> tuple[float, float] | None:
    """(0028,1050) Window Center and (0028,1051) Width: the first pair, if it can be used.

    A width of 1 is a threshold, which no device means for ultrasound.
    """
    center, width = (_first_number(dataset, k) for k in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or not width > 1:
        return None
    return center, width


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma in the integer arithmetic of Pillow's `convert("L")`.

    Args:
        rgb: (..., 3) uint8.

    Returns:
        (...) uint8.
    """
    red, green, blue = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def _to_8_bits(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Applies the first window of the header, or else stretches the range that occurs.

    Returns:
        The levels, and where the padding is, which is no tissue and has no part in the range.
    """
    padding = _padding(stored, dataset)
    slope, intercept = (_first_number(dataset, f"Rescale{k}") for k in ("Slope", "Intercept"))
    values = stored * (1.0 if slope is None else slope) + (intercept or 0.0)
    chosen = window(dataset)
    if chosen is not None:
        center, width = chosen
        # PS3.3 C.11.2.1.2.1, the linear function.
        scaled = (values - (center - 0.5)) / (width - 1) + 0.5
    else:
        inside = values if padding is None else values[~padding]
        low, high = (inside.min(), inside.max()) if inside.size else (0.0, 0.0)
        scaled = (values - low) / max(high - low, 1)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8), padding


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Where (0028,0120) Pixel Padding Value is, up to (0028,0121) its Range Limit."""
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
    """Looks palette indices up, (0028,1101-1203) and (0028,1221-1223)."""
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
    # Some devices announce 16 bits and then use the low byte only.
    if rgb.dtype != np.uint8 and rgb.max() > 255:
        rgb = rgb >> 8
    table = luma(rgb.astype(np.uint8))
    return table[np.clip(stored.astype(np.int32) - first, 0, entries - 1)]


def _table(element: DataElement, entries: int, little_endian: bool) -> np.ndarray:
    """One channel of the palette: 8-bit entries may be padded to an even length."""
    data = element.value
    wide = len(data) >= 2 * entries
    dtype = ("<u2" if little_endian else ">u2") if wide else "u1"
    if not wide and not little_endian and element.VR == "OW":
        data = np.frombuffer(data, "u2").byteswap().tobytes()
    return np.frombuffer(data, dtype=dtype, count=entries)
