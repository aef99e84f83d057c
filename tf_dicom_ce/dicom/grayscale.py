"""Stored pixel values to 8-bit gray levels."""

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut

INVERTED = "MONOCHROME1 inverted"
WINDOWED = "windowed to 8 bits"
MIN_MAX = "scaled from its minimum and maximum to 8 bits"
HIGH_BYTE = "colour reduced to its high byte"

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")
PALETTE = "PALETTE COLOR"
# YBR_ICT and YBR_RCT leave the JPEG 2000 decoder as RGB.
SUPPORTED = (*MONOCHROME, *LUMA_FIRST, PALETTE, "RGB", "YBR_ICT", "YBR_RCT")


def to_grayscale(
    stored: np.ndarray, photometric: str, dataset: Dataset
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns one decoded frame into gray levels.

    Args:
        stored: (H, W) or (H, W, 3) integers as stored, any byte order.
        photometric: (0028,0004) Photometric Interpretation of `stored`, one of `SUPPORTED`; may
            differ from the data set's, as some decoders convert colours.
        dataset: The header, for the palette, the window and (0028,0101) Bits Stored.

    Returns:
        (H, W) uint8, 0 black to 255 white; and the flags that tell what was decided.

    Raises:
        ValueError: The palette is malformed, or the shape does not fit the interpretation.
    """
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    bits = int(dataset.BitsStored)
    if stored.ndim == 2 and photometric == PALETTE:
        return _palette_to_luma(stored, dataset), ()
    if stored.ndim == 2 and photometric in MONOCHROME:
        if bits == 8 and stored.dtype.kind == "u":
            levels, flags = stored.astype(np.uint8, copy=False), ()
        else:
            levels, flags = _to_8_bits(stored, dataset)
        if photometric == "MONOCHROME1":
            levels, flags = 255 - levels, (*flags, INVERTED)
        return levels, flags
    if stored.ndim == 3 and stored.shape[2] == 3 and photometric in (*LUMA_FIRST, "RGB"):
        channels = stored[..., 0] if photometric in LUMA_FIRST else stored
        flags = ()
        if bits > 8:
            channels, flags = channels >> (bits - 8), (HIGH_BYTE,)
        channels = channels.astype(np.uint8, copy=False)
        return (channels if photometric in LUMA_FIRST else luma(channels)), flags
    raise ValueError("samples per pixel do not fit the photometric interpretation")


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma in the integer arithmetic of Pillow's `convert("L")`.

    Args:
        rgb: (..., 3) uint8.

    Returns:
        (...) uint8.
    """
    red, green, blue = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def _to_8_bits(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """Applies the first window of the header, or else stretches the range that occurs."""
    values = stored.astype(np.float64)
    center, width = (_first_number(dataset, k) for k in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and width > 1:
        slope, intercept = (_first_number(dataset, f"Rescale{k}") for k in ("Slope", "Intercept"))
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
        # PS3.3 C.11.2.1.2.1, the linear function.
        scaled, flags = (values - (center - 0.5)) / (width - 1) + 0.5, (WINDOWED,)
    else:
        low, high = values.min(), values.max()
        scaled, flags = (values - low) / max(high - low, 1), (MIN_MAX,)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8), flags


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
            _table(dataset[f"{c}PaletteColorLookupTableData"].value, entries, little_endian)
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


def _table(data: bytes, entries: int, little_endian: bool) -> np.ndarray:
    """One channel of the palette: 8-bit entries may be padded to an even length."""
    wide = len(data) >= 2 * entries
    dtype = ("<u2" if little_endian else ">u2") if wide else "u1"
    return np.frombuffer(data, dtype=dtype, count=entries)
