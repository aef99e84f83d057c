"""Windows, padding and palettes of rare kinds, as whole files."""

import struct

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tf_dicom_ce.dicom.flags import Flag
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
    assert frame.flags == (Flag.MIN_MAX,)


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
    assert frame.flags == (Flag.WINDOWED,)


@pytest.mark.parametrize("width", ["1", "0", "-3", ""])
def test_window_that_shows_nothing_is_not_used(write, width):
    values = np.array([[0, 500], [1000, 1000]], np.uint16)
    frame = read_frame(write("a", values, WindowCenter="400", WindowWidth=width))
    np.testing.assert_array_equal(frame.pixels, [[0, 128], [255, 255]])
    unusable = (Flag.UNUSABLE_LUT,) if width else ()  # or there is none
    assert frame.flags == (*unusable, Flag.MIN_MAX)


def seen_by_pydicom(path):
    """pydicom's output for a file, scaled from its range to levels of 0 to 255."""
    dataset = dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    return np.rint(np.clip(values.astype(float) / (2**dataset.BitsStored - 1), 0, 1) * 255)


@pytest.mark.parametrize(
    ("center", "width", "function", "levels"),
    [
        # (x - 63.5) / 31 + 0.5: from 48 to 79.
        ("64", "32", None, [0, 0, 0, 132, 255]),
        # (x - 64) / 32 + 0.5: from 48 to 80.
        ("64", "32", "LINEAR_EXACT", [0, 0, 0, 128, 255]),
        # 255 / (1 + exp(-4 (x - 64) / 32)).
        ("64", "32", "SIGMOID", [0, 5, 30, 128, 255]),
        ("127", "254", None, [0, 32, 48, 65, 202]),
        ("128", "256", "LINEAR", [0, 32, 48, 64, 200]),
    ],
)
def test_windows_of_8_bits(write, center, width, function, levels):
    values = np.array([[0, 32, 48, 64, 200]], np.uint8)
    more = {"WindowCenter": center, "WindowWidth": width}
    if function:
        more["VOILUTFunction"] = function
    path = write("a", values, **more)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, [levels])
    np.testing.assert_array_equal(frame.pixels, seen_by_pydicom(path))
    assert frame.flags == (Flag.WINDOWED,)
    inverted = read_frame(write("b", values, PhotometricInterpretation="MONOCHROME1", **more))
    np.testing.assert_array_equal(inverted.pixels, 255 - frame.pixels)
    assert inverted.flags == (Flag.WINDOWED, Flag.INVERTED)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_windows_of_12_bits_as_pydicom_applies_them(write, function, syntax):
    values = stored(np.arange(4096).reshape(64, 64).astype(np.uint16), syntax)
    more = {"WindowCenter": "1500", "WindowWidth": "900.5", "VOILUTFunction": function}
    path = write("a", values, syntax=syntax, BitsStored=12, HighBit=11, **more)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, seen_by_pydicom(path))
    assert frame.flags == (Flag.WINDOWED,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"VOILUTFunction": "CUBIC"},
        {"WindowWidth": "0.5"},
        {"WindowWidth": "x"},
        {"WindowCenter": "nan"},
        {"WindowCenter": None},
    ],
)
def test_unusable_window_of_8_bits_is_ignored_and_flagged(write, ramp, wrong):
    more = {"WindowCenter": "64", "WindowWidth": "32"}
    path = write("a", ramp, **more)
    for keyword, value in wrong.items():
        content = path.read_bytes()
        tag = {"VOILUTFunction": 0x1056, "WindowCenter": 0x1050, "WindowWidth": 0x1051}[keyword]
        start = struct.pack("<HH", 0x28, tag)
        old = start + b"DS\x02\0" + more.get(keyword, "").encode()
        if value is None:
            content = content.replace(old, b"")
        elif keyword in more:
            new = value.encode() + b" " * (len(value) % 2)
            content = content.replace(old, start + b"DS" + struct.pack("<H", len(new)) + new)
        else:
            new = value.encode() + b" " * (len(value) % 2)
            element = start + b"CS" + struct.pack("<H", len(new)) + new
            at = content.index(b"\xe0\x7f\x10\0OB")
            content = content[:at] + element + content[at:]
        path.write_bytes(content)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.flags == (Flag.UNUSABLE_LUT,)


def lookup(entries, first, bits, packed=False, syntax=ExplicitVRLittleEndian, vr="OW"):
    """A sequence of one table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    order = "<" if syntax.is_little_endian else ">"
    data = entries.astype("u1" if packed else f"{order}u2").tobytes()
    item.add_new("LUTData", vr, data if vr == "OW" else entries.tolist())
    return [item]


VALUES = np.array([[0, 99, 100, 101], [300, 355, 356, 4095]], np.uint16)
#: Where those values are looked up in a table of 256 entries from 100 on.
PLACES = np.clip(VALUES.astype(int) - 100, 0, 255)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("vr", ["OW", "US"])
def test_voi_lut(write, syntax, vr):
    entries = 65535 - 257 * np.arange(256)
    tables = lookup(entries, 100, 16, syntax=syntax, vr=vr)
    more = {"BitsStored": 12, "HighBit": 11, "VOILUTSequence": tables, "syntax": syntax}
    path = write("a", stored(VALUES, syntax), **more)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, 255 - PLACES)
    if syntax != ImplicitVRLittleEndian:
        dataset = dcmread(path)
        values = apply_voi_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(frame.pixels, values // 257)
    assert frame.flags == (Flag.VOI_LUT,)


@pytest.mark.parametrize("packed", [False, True])
def test_voi_lut_of_8_bits_for_more(write, packed):
    """pydicom's function wraps around here: 256 would be 0."""
    entries = np.arange(256)[::-1]
    more = {"BitsStored": 12, "HighBit": 11}
    path = write("a", VALUES, VOILUTSequence=lookup(entries, 100, 8, packed), **more)
    np.testing.assert_array_equal(read_frame(path).pixels, 255 - PLACES)


def test_voi_lut_stands_above_the_window_and_behind_the_rescaling(write):
    entries = 2 * np.arange(128)
    more = {"VOILUTSequence": lookup(entries, 0, 8), "WindowCenter": "9", "WindowWidth": "9"}
    values = np.array([[10, 60], [90, 255]], np.uint8)
    frame = read_frame(write("a", values, RescaleSlope="1", RescaleIntercept="-50", **more))
    np.testing.assert_array_equal(frame.pixels, [[0, 20], [80, 254]])
    assert frame.flags == (Flag.VOI_LUT,)


@pytest.mark.parametrize("slope", ["1", "2.5", "0"])
def test_rescaling_leaves_8_bits_as_they_are(write, ramp, slope):
    frame = read_frame(write("a", ramp, RescaleSlope=slope, RescaleIntercept="-7"))
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.flags == ()


def test_rescaling_that_turns_black_into_white(write, ramp):
    frame = read_frame(write("a", ramp, RescaleSlope="-1", RescaleIntercept="255"))
    np.testing.assert_array_equal(frame.pixels, np.rint((250 - ramp.astype(float)) / 250 * 255))
    assert frame.flags == (Flag.MIN_MAX,)


@pytest.mark.parametrize("packed", [False, True])
def test_modality_lut_of_8_bits(write, ramp, packed):
    entries = np.arange(256)[::-1] // 2
    path = write("a", ramp, ModalityLUTSequence=lookup(entries, 0, 8, packed))
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, (255 - ramp.astype(int)) // 2)
    assert frame.flags == (Flag.MODALITY_LUT,)


def test_modality_lut_of_16_bits_comes_before_the_window(write, ramp):
    entries = 4 * np.arange(256)
    tables = lookup(entries, 0, 16)
    path = write("a", ramp, ModalityLUTSequence=tables)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, np.rint(ramp / 250 * 255))  # from 0 to 4 * 250
    assert frame.flags == (Flag.MODALITY_LUT, Flag.MIN_MAX)
    more = {"WindowCenter": "512", "WindowWidth": "1024", "VOILUTFunction": "LINEAR_EXACT"}
    frame = read_frame(write("b", ramp, ModalityLUTSequence=tables, **more))
    np.testing.assert_array_equal(frame.pixels, np.rint(4 * ramp.astype(float) / 1024 * 255))
    assert frame.flags == (Flag.MODALITY_LUT, Flag.WINDOWED)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(
    ("descriptor", "size"), [([256, 0, 8], 100), ([256, 0, 40], 512), ([256, 0], 512)]
)
def test_malformed_table_is_ignored_and_flagged(write, ramp, name, descriptor, size):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "OW", bytes(size))
    frame = read_frame(write("a", ramp, **{name: [item]}))
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.flags == (Flag.UNUSABLE_LUT,)


def test_entries_of_more_bits_than_told_are_not_used(write, ramp):
    entries = 300 * np.arange(200)
    frame = read_frame(write("a", ramp, VOILUTSequence=lookup(entries, 0, 12)))
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.flags == (Flag.UNUSABLE_LUT,)


def test_colour_has_no_window(write, colours):
    frame = read_frame(write("a", colours, WindowCenter="64", WindowWidth="32"))
    np.testing.assert_array_equal(frame.pixels, np.asarray(Image.fromarray(colours).convert("L")))
    assert frame.flags == ()


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
