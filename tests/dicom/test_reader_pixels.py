"""Gray levels against values that were computed another way."""

import io
import tracemalloc

import jpeg_ls
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tf_dicom_ce.dicom import grayscale, reader, regions


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
    assert set(frame.flags) == {regions.CLAMPED, regions.CROPPED}


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
    assert frame.flags == (regions.IMPLAUSIBLE,)


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
    assert frame.flags == (grayscale.INVERTED,)


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
    assert frame.flags == (grayscale.MIN_MAX,)


def test_16_bits_are_windowed(write):
    values = np.array([[0, 1000], [1500, 3000]], np.uint16)
    frame = reader.read_frame(
        write("a", values, WindowCenter=["1500", "40"], WindowWidth=["1001", "400"])
    )
    # (1500 - 1499.5) / 1000 + 0.5 = 0.5005 of 255; the first window is the one that counts.
    np.testing.assert_array_equal(frame.pixels, [[0, 0], [128, 255]])
    assert frame.flags == (grayscale.WINDOWED,)


def test_8_bits_stored_in_16_are_kept(write, ramp):
    frame = reader.read_frame(write("a", ramp.astype(np.uint16), BitsStored=8, HighBit=7))
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.flags == ()


def test_constant_16_bit_image_is_black(write):
    np.testing.assert_array_equal(pixels(write("a", np.full((4, 4), 900, np.uint16))), 0)


def test_16_bit_colour_takes_the_high_byte(write, colours):
    path = write("a", (colours.astype(np.uint16) << 8) + 77)
    np.testing.assert_array_equal(pixels(path), pillow_luma(colours))


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def test_jpeg_colour_gives_the_codestreams_y(write, colours):
    stream = jpeg(Image.fromarray(colours), quality=90)
    decoded = Image.open(io.BytesIO(stream))
    decoded.draft("YCbCr", decoded.size)
    path = write(
        "a",
        colours,
        syntax=JPEGBaseline8Bit,
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=encapsulate([stream]),
    )
    np.testing.assert_array_equal(pixels(path), np.asarray(decoded)[..., 0])


def test_jpeg_with_adobe_marker_is_taken_as_rgb(write, colours):
    stream = jpeg(Image.fromarray(colours), quality=90)
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
    stream = stream[:2] + adobe + stream[2:]
    expected = Image.open(io.BytesIO(stream)).convert("L")
    path = write(
        "a",
        colours,
        syntax=JPEGBaseline8Bit,
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=encapsulate([stream]),
    )
    np.testing.assert_array_equal(pixels(path), np.asarray(expected))


def jpeg_lossless(values):
    """An independent writer: predictor 1, one Huffman code of 4 bits for each category."""
    height, width = values.shape
    bits = ""
    for y, row in enumerate(values.astype(int)):
        for x, value in enumerate(row):
            predicted = row[x - 1] if x else (values[y - 1, 0] if y else 128)
            difference = int(value) - int(predicted)
            size = abs(difference).bit_length()
            bits += f"{size:04b}"
            if size:
                low = difference if difference > 0 else difference + (1 << size) - 1
                bits += f"{low:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")
    sof = b"\xff\xc3\x00\x0b\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\x01\x11\x00"
    # Nine categories, 0 to 8, with the codes 0000 to 1000.
    dht = b"\xff\xc4\x00\x1c\x00" + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    sos = b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00"
    return b"\xff\xd8" + sof + dht + sos + scan + b"\xff\xd9"


def test_jpeg_lossless(write, ramp):
    path = write("a", ramp, syntax=JPEGLosslessSV1, PixelData=encapsulate([jpeg_lossless(ramp)]))
    np.testing.assert_array_equal(pixels(path), ramp)


def compressed(values, syntax):
    if syntax == JPEGLSLossless:
        return bytes(jpeg_ls.encode_array(values, interleave_mode=2 if values.ndim == 3 else 0))
    if syntax == JPEG2000Lossless:
        file = io.BytesIO()
        Image.fromarray(values).save(file, "JPEG2000", irreversible=False, no_jp2=True, mct=1)
        return file.getvalue()
    # RLE without a run: each literal packet holds up to 128 bytes behind its length less one.
    planes = (
        [values[..., i].tobytes() for i in range(3)] if values.ndim == 3 else [values.tobytes()]
    )
    segments = []
    for plane in planes:
        parts = [plane[i : i + 15] for i in range(0, len(plane), 15)]
        segments.append(b"".join(bytes([len(part) - 1]) + part for part in parts))
    offsets = [64 + sum(map(len, segments[:i])) for i in range(len(segments))]
    header = np.array([len(segments), *offsets, *[0] * (15 - len(segments))], "<u4")
    return header.tobytes() + b"".join(segments)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("colour", [False, True])
def test_lossless_compression_changes_nothing(tmp_path, build, ramp, colours, syntax, colour):
    dataset = build(colours if colour else ramp)
    if syntax == JPEG2000Lossless and colour:
        dataset.PhotometricInterpretation = "YBR_RCT"
    dataset.PixelData = encapsulate([compressed(colours if colour else ramp, syntax)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    np.testing.assert_array_equal(pixels(tmp_path / "a"), pillow_luma(colours) if colour else ramp)


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
