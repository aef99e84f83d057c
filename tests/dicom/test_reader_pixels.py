"""Gray levels against values that were computed another way."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from tf_dicom_ce.dicom import reader
from tf_dicom_ce.dicom.flags import Flag


def shipped(name):
    return get_testdata_file(name, download=False)


def pillow_luma(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))


def pixels(path, index=None):
    frame = reader.read_frame(path, index)
    assert isinstance(frame, reader.Frame), frame
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.flags.c_contiguous
    return frame.pixels


@pytest.mark.parametrize("name", ["examples_rgb_color.dcm", "examples_jpeg2k.dcm"])
def test_rgb_examples_equal_pillows_luma(name):
    expected = pillow_luma(dcmread(shipped(name)).pixel_array)
    np.testing.assert_array_equal(pixels(shipped(name)), expected)


def test_palette_example_is_looked_up_and_cropped():
    dataset = dcmread(shipped("examples_palette.dcm"))
    rgb = (apply_color_lut(dataset.pixel_array, dataset) >> 8).astype(np.uint8)
    frame = reader.read_frame(shipped("examples_palette.dcm"))
    # The region reaches from (120, 60) to (800, 518) in an image of 800 × 350.
    np.testing.assert_array_equal(frame.pixels, pillow_luma(rgb)[60:, 120:])
    assert frame.flags == (Flag.CLAMPED, Flag.CROPPED, Flag.COLOUR_DOPPLER)


@pytest.mark.parametrize("index", [0, 15, 29])
def test_ybr_example_gives_the_y_of_each_frame(index):
    path = shipped("examples_ybr_color.dcm")
    dataset = dcmread(path)
    jpegs = list(generate_frames(dataset.PixelData, number_of_frames=30))
    image = Image.open(io.BytesIO(jpegs[index]))
    image.draft("YCbCr", image.size)
    frame = reader.read_frame(path, index)
    np.testing.assert_array_equal(frame.pixels, np.asarray(image)[..., 0])
    # The region was written for 640 × 480; a quarter of it lies in this image of 320 × 240.
    assert frame.flags == (Flag.IMPLAUSIBLE_REGION, Flag.LOSSY)


def test_middle_frame_is_the_default():
    path = shipped("examples_ybr_color.dcm")
    np.testing.assert_array_equal(pixels(path), pixels(path, 15))
    assert np.any(pixels(path) != pixels(path, 14))


def test_big_endian_example_from_its_raw_bytes():
    path = shipped("ExplVR_BigEnd.dcm")
    raw = dcmread(path).PixelData
    planes = np.frombuffer(raw, np.uint8)[: 3 * 60 * 80].reshape(3, 60, 80)
    np.testing.assert_array_equal(pixels(path), pillow_luma(np.stack(planes, -1)))


def test_monochrome2_is_kept(write, ramp):
    path = write("a", ramp)
    assert reader.read_frame(path).flags == ()
    np.testing.assert_array_equal(pixels(path), ramp)


def test_monochrome1_is_inverted(write, ramp):
    frame = reader.read_frame(write("a", ramp, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(frame.pixels, 255 - ramp)
    assert frame.flags == (Flag.INVERTED,)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_uncompressed_syntaxes(write, ramp, syntax):
    np.testing.assert_array_equal(pixels(write("a", ramp, syntax=syntax)), ramp)


def test_missing_transfer_syntax_is_found_by_looking(tmp_path, build, ramp):
    dataset = build(ramp)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(
        tmp_path / "a", implicit_vr=False, little_endian=True, enforce_file_format=False
    )
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(content[132:] if content[128:132] == b"DICM" else content)
    np.testing.assert_array_equal(pixels(tmp_path / "b"), ramp)


@pytest.mark.parametrize("planar", [0, 1])
def test_planar_configuration(write, colours, planar):
    stored = np.moveaxis(colours, -1, 0) if planar else colours
    path = write("a", colours, PlanarConfiguration=planar, PixelData=stored.tobytes())
    np.testing.assert_array_equal(pixels(path), pillow_luma(colours))


def test_ybr_full_gives_y(write, colours):
    path = write("a", colours, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_array_equal(pixels(path), colours[..., 0])


def test_ybr_full_422_gives_y(write, colours):
    pairs = np.zeros((20, 15, 4), np.uint8)  # Y1 Y2 Cb Cr
    pairs[..., :2] = colours[..., 0].reshape(20, 15, 2)
    pairs[..., 2:] = 90
    path = write("a", colours, PhotometricInterpretation="YBR_FULL_422", PixelData=pairs.tobytes())
    np.testing.assert_array_equal(pixels(path), colours[..., 0])


@pytest.mark.parametrize("order", ["<", ">"])
def test_palette_in_either_byte_order(write, ramp, order):
    entries = np.random.default_rng(2).integers(0, 65536, (3, 251)).astype(f"{order}u2")
    luts = {
        f"{c}PaletteColorLookupTable{k}": v
        for c, table in zip(("Red", "Green", "Blue"), entries, strict=True)
        for k, v in (("Descriptor", [251, 0, 16]), ("Data", table.tobytes()))
    }
    syntax = {} if order == "<" else {"syntax": ExplicitVRBigEndian}
    path = write("a", ramp, PhotometricInterpretation="PALETTE COLOR", **luts, **syntax)
    rgb = np.moveaxis(entries.astype(np.uint16) >> 8, 0, -1).astype(np.uint8)[ramp]
    np.testing.assert_array_equal(pixels(path), pillow_luma(rgb))


def test_palette_indices_outside_of_the_table_take_its_ends(write, ramp):
    table = np.arange(100, 200, dtype=np.uint8)
    luts = {}
    for colour in ("Red", "Green", "Blue"):
        luts[f"{colour}PaletteColorLookupTableDescriptor"] = [100, 50, 8]
        luts[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    path = write("a", ramp, PhotometricInterpretation="PALETTE COLOR", **luts)
    expected = np.clip(ramp.astype(int) - 50, 0, 99) + 100
    np.testing.assert_array_equal(pixels(path), expected)


@pytest.mark.parametrize("syntax", [UID("1.2.840.10008.1.2.1"), ExplicitVRBigEndian])
def test_16_bits_are_stretched_from_minimum_to_maximum(write, syntax):
    order = "<" if syntax.is_little_endian else ">"
    values = np.array([[-1000, 0], [500, 1000]], f"{order}i2")
    frame = reader.read_frame(write("a", values, syntax=syntax))
    np.testing.assert_array_equal(frame.pixels, [[0, 128], [191, 255]])
    assert frame.flags == (Flag.MIN_MAX,)


def test_16_bits_are_windowed(write):
    values = np.array([[0, 1000], [1500, 3000]], np.uint16)
    frame = reader.read_frame(
        write("a", values, WindowCenter=["1500", "40"], WindowWidth=["1001", "400"])
    )
    # (1500 - 1499.5) / 1000 + 0.5 = 0.5005 of 255; the first window is the one that counts.
    np.testing.assert_array_equal(frame.pixels, [[0, 0], [128, 255]])
    assert frame.flags == (Flag.WINDOWED,)


def test_8_bits_stored_in_16_are_kept(write, ramp):
    frame = reader.read_frame(write("a", ramp.astype(np.uint16), BitsStored=8, HighBit=7))
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.flags == ()


def test_constant_16_bit_image_is_black(write):
    np.testing.assert_array_equal(pixels(write("a", np.full((4, 4), 900, np.uint16))), 0)


def test_16_bit_colour_takes_the_high_byte(write, colours):
    path = write("a", (colours.astype(np.uint16) << 8) + 77)
    np.testing.assert_array_equal(pixels(path), pillow_luma(colours))


def test_one_frame_of_a_long_cine_needs_little_memory(write):
    frames = np.zeros((200, 256, 256), np.uint8) + np.arange(200, dtype=np.uint8)[:, None, None]
    path = write("a", frames[0], NumberOfFrames=200, PixelData=frames.tobytes())
    del frames
    pixels(path, 0)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(pixels(path, 123), 123)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # one frame is 65,536 bytes, all of them 13 million


def test_pixels_that_are_not_square_are_flagged(write, ramp):
    frame = reader.read_frame(write("a", ramp, PixelAspectRatio=[4, 3]))
    assert frame.flags == ("pixels not square, not resampled",)
    assert reader.read_frame(write("b", ramp, PixelAspectRatio=[1, 1])).flags == ()
