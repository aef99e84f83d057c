"""Windows, padding and palettes of rare kinds, as whole files."""

import struct

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tf_dicom_ce.dicom import decisions
from tf_dicom_ce.dicom.reader import Frame, read_frame

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def pixels(path):
    frame = read_frame(path)
    assert isinstance(frame, Frame), frame
    return frame.pixels


def stored(values, syntax):
    """Values in the byte order of the syntax."""
    return values.astype(values.dtype.newbyteorder("<" if syntax.is_little_endian else ">"))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_padding_has_no_part_in_the_range_and_is_black(write, syntax, kind):
    pad = 60000 if kind is np.uint16 else -2000
    values = stored(np.array([[100, 300], [200, pad]], kind), syntax)
    frame = read_frame(write("a", values, syntax=syntax, PixelPaddingValue=pad))
    np.testing.assert_array_equal(frame.pixels, [[0, 255], [128, 0]])
    assert frame.flags == (decisions.MIN_MAX,)


def test_range_of_padding(write):
    values = np.array([[100, 300], [5, 9]], np.uint16)
    more = {"PixelPaddingValue": 10, "PixelPaddingRangeLimit": 0}
    np.testing.assert_array_equal(pixels(write("a", values, **more)), [[0, 255], [0, 0]])


def test_padding_of_monochrome1_is_black_too(write):
    values = np.array([[100, 300], [0, 0]], np.uint16)
    more = {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}
    np.testing.assert_array_equal(pixels(write("a", values, **more)), [[255, 0], [0, 0]])


def test_nothing_but_padding_is_black(write):
    values = np.full((3, 4), 7, np.uint16)
    assert not pixels(write("a", values, PixelPaddingValue=7)).any()


def test_padding_of_8_bits_is_left_alone(write, ramp):
    np.testing.assert_array_equal(pixels(write("a", ramp, PixelPaddingValue=7)), ramp)


def test_window_applies_to_rescaled_values(write):
    values = np.array([[0, 50], [100, 200]], np.uint16)
    more = {"RescaleSlope": "2", "RescaleIntercept": "-100"}
    # From -50.5 to 149.5, in steps of 2.
    frame = read_frame(write("a", values, WindowCenter="50", WindowWidth="201", **more))
    np.testing.assert_array_equal(frame.pixels, [[0, 64], [192, 255]])
    assert frame.flags == (decisions.WINDOWED,)


@pytest.mark.parametrize("width", ["1", "0", "-3", ""])
def test_window_that_shows_nothing_is_not_used(write, width):
    values = np.array([[0, 500], [1000, 1000]], np.uint16)
    frame = read_frame(write("a", values, WindowCenter="400", WindowWidth=width))
    np.testing.assert_array_equal(frame.pixels, [[0, 128], [255, 255]])
    assert frame.flags == (decisions.MIN_MAX,)


@pytest.mark.parametrize("planar", [0, 1])
def test_planes_of_ybr_full(write, colours, planar):
    values = np.moveaxis(colours, -1, 0) if planar else colours
    more = {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": planar}
    path = write("a", colours, PixelData=values.tobytes(), **more)
    np.testing.assert_array_equal(pixels(path), colours[..., 0])


def palette(tables, bits, segmented=False):
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    prefix = "Segmented" if segmented else ""
    for colour, (entries, data) in zip(("Red", "Green", "Blue"), tables, strict=True):
        name = f"{colour}PaletteColorLookupTable"
        elements[f"{name}Descriptor"] = [entries, 0, bits]
        elements[f"{prefix}{name}Data"] = data
    return elements


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_palette_of_8_bits_in_words(write, ramp, syntax):
    tables = np.random.default_rng(3).integers(0, 256, (3, 256), np.uint8)
    words = tables if syntax.is_little_endian else tables.view("u2").byteswap().view("u1")
    luts = palette([(256, word.tobytes()) for word in words], 8)
    path = write("a", ramp, syntax=syntax, **luts)
    expected = np.asarray(Image.fromarray(tables.T[ramp]).convert("L"))
    np.testing.assert_array_equal(pixels(path), expected)


def test_palette_of_16_bits_of_which_8_are_used(write, ramp):
    tables = np.random.default_rng(3).integers(0, 256, (3, 256), np.uint16)
    luts = palette([(256, table.astype("<u2").tobytes()) for table in tables], 16)
    expected = np.asarray(Image.fromarray(tables.T.astype(np.uint8)[ramp]).convert("L"))
    np.testing.assert_array_equal(pixels(write("a", ramp, **luts)), expected)


def test_segmented_palette(write, ramp):
    # Discrete: 2 entries of 0; linear: 254 entries up to 65024.
    segments = struct.pack("<7H", 0, 2, 0, 0, 1, 254, 65024)
    luts = palette([(256, segments)] * 3, 16, segmented=True)
    gray = pixels(write("a", ramp, **luts))
    expected = np.where(ramp < 2, 0, (ramp.astype(float) - 1) * 65024 / 254 / 256)
    np.testing.assert_allclose(gray, expected, atol=1)


def test_palette_indices_of_16_bits(write):
    table = np.arange(1024).astype("<u2") * 64
    luts = palette([(1024, table.tobytes())] * 3, 16)
    values = np.array([[0, 4], [1023, 5000]], np.uint16)
    np.testing.assert_array_equal(pixels(write("a", values, **luts)), [[0, 1], [255, 255]])


def test_12_bits_in_big_endian_words(write):
    values = np.array([[0, 2048], [4095, 1024]], ">u2")
    path = write("a", values, syntax=ExplicitVRBigEndian, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(pixels(path), [[0, 128], [255, 64]])
