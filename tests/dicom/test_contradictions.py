"""Pixels that contradict their header are read with a flag, or refused by a code."""

import io

import jpeg_ls
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tf_dicom_ce.dicom import decoders, reader
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import Code, Frame, Refusal, inspect, read_frame, read_frames


def luma(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))


def check(path, pixels, *flags):
    frame = read_frame(path)
    assert isinstance(frame, Frame), frame
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert frame.flags == flags
    _, told = inspect(path)
    assert told == tuple(flag for flag in flags if not flag.needs_decoding)


def code(path):
    """The code of header and frame, which must be the same."""
    refused = read_frame(path)
    assert inspect(path) == refused
    return refused.code


def relabelled(path, syntax):
    """The file with another transfer syntax in its meta information; the rest as it is."""
    content = path.read_bytes()
    start = content.index(b"\x02\0\x10\0UI")
    old = 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    new = b"\x02\0\x10\0UI" + len(value).to_bytes(2, "little") + value
    group = int.from_bytes(content[140:144], "little") + len(new) - old
    content = content[:start] + new + content[start + old :]
    path.write_bytes(content[:140] + group.to_bytes(4, "little") + content[144:])
    return path


# Uncompressed: its length.


@pytest.mark.parametrize("pad", [b"", b"\0"])
def test_ybr_422_of_three_bytes_a_pixel_is_ybr_full(write, pad):
    values = np.random.default_rng(1).integers(0, 256, (21, 30 - len(pad), 3), np.uint8)
    path = write("a", values, PhotometricInterpretation="YBR_FULL_422")
    assert path.read_bytes().endswith(values.tobytes() + pad)
    check(path, values[..., 0], Flag.NOT_SUBSAMPLED)


def test_frames_of_such_a_cine(write, colours):
    frames = np.stack([colours, colours[::-1], colours[:, ::-1]])
    more = {"PhotometricInterpretation": "YBR_FULL_422", "NumberOfFrames": 3}
    path = write("a", colours, PixelData=frames.tobytes(), **more)
    for frame, values in zip(read_frames(path, range(3)), frames, strict=True):
        np.testing.assert_array_equal(frame.pixels, values[..., 0])
    path.write_bytes(path.read_bytes()[:-1])
    assert code(path) is Code.TRUNCATED


def test_ybr_422_as_it_should_be_has_no_flag(write, colours):
    pairs = np.full((20, 15, 4), 90, np.uint8)  # Y1 Y2 Cb Cr
    pairs[..., :2] = colours[..., 0].reshape(20, 15, 2)
    path = write("a", colours, PhotometricInterpretation="YBR_FULL_422", PixelData=pairs.tobytes())
    check(path, colours[..., 0])


@pytest.mark.parametrize("kind", ["MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422"])
def test_any_other_surplus_is_flagged(write, ramp, colours, kind):
    values = ramp if kind == "MONOCHROME2" else colours
    expected = {"MONOCHROME2": ramp, "RGB": luma(colours)}.get(kind, colours[..., 0])
    data = values.tobytes() + b"\7\7"
    if kind == "YBR_FULL_422":
        pairs = np.full((20, 15, 4), 90, np.uint8)
        pairs[..., :2] = colours[..., 0].reshape(20, 15, 2)
        data = pairs.tobytes() + b"\7\7"
    path = write("a", values, PhotometricInterpretation=kind, PixelData=data)
    check(path, expected, Flag.SURPLUS_PIXELS)


def test_a_pad_byte_is_no_surplus(write, ramp):
    odd = ramp[:19, :29]
    check(write("a", odd), odd)
    path = write("b", odd, PixelData=odd.tobytes() + b"\0\0\0")
    check(path, odd, Flag.SURPLUS_PIXELS)


def test_too_few_frames_told_are_a_surplus(write, ramp):
    path = write("a", ramp, PixelData=ramp.tobytes() * 3, NumberOfFrames=2)
    check(path, ramp, Flag.SURPLUS_PIXELS)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit, JPEG2000, JPEGLSLossless])
def test_native_pixels_under_a_compressed_syntax(write, ramp, syntax):
    path = relabelled(write("a", ramp), syntax)
    assert code(path) is Code.WRONG_TRANSFER_SYNTAX
    assert "uncompressed" in Code.WRONG_TRANSFER_SYNTAX.remedy
    # Where nothing of the pixels is left, the file is cut.
    path.write_bytes(path.read_bytes()[: -ramp.size + 3])
    assert code(path) is Code.TRUNCATED


def test_compressed_pixels_under_a_native_syntax(write, ramp):
    stream = bytes(jpeg_ls.encode_array(np.tile(ramp, (9, 9))))
    path = write("a", ramp, syntax=JPEGLSLossless, PixelData=encapsulate([stream]))
    assert path.stat().st_size > ramp.size + 1000  # enough bytes to be taken for pixels
    assert code(relabelled(path, ExplicitVRLittleEndian)) is Code.WRONG_TRANSFER_SYNTAX


# Bits of a cell.


def cells(values, shift):
    return {"pixels": values.astype(np.uint16) << shift, "BitsStored": 8, "HighBit": 7 + shift}


def run_length(values):
    """RLE of 16-bit cells: the segments are high and low bytes."""
    planes = [(values >> 8).astype(np.uint8).tobytes(), (values & 255).astype(np.uint8).tobytes()]
    coded = [
        b"".join(bytes([len(p[i : i + 15]) - 1]) + p[i : i + 15] for i in range(0, len(p), 15))
        for p in planes
    ]
    head = [2, 64, 64 + len(coded[0]), *[0] * 13]
    return np.array(head, "<u4").tobytes() + b"".join(coded)


@pytest.mark.parametrize("shift", [8, 4])
@pytest.mark.parametrize("compressed", [False, True])
def test_8_bits_with_another_high_bit(write, ramp, shift, compressed):
    more = cells(ramp, shift)
    if compressed:
        data = encapsulate([run_length(more["pixels"])])
        more |= {"syntax": RLELossless, "PixelData": data}
    check(write("a", **more), ramp, Flag.HIGH_BIT)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_high_bit_that_is_wrong(write, ramp, bits):
    """The values are nevertheless in the lowest bits."""
    values = ramp.astype(np.uint8 if bits == 8 else np.uint16)
    check(write("a", values, BitsStored=8, HighBit=15), ramp, Flag.HIGH_BIT)
    check(write("b", values, BitsStored=8, HighBit=0), ramp, Flag.HIGH_BIT)


def test_12_bits_at_the_top_are_windowed_as_12_bits(write):
    values = np.array([[0, 1000], [2000, 4095]], np.uint16) << 4
    more = {"BitsStored": 12, "HighBit": 15, "WindowCenter": "1000", "WindowWidth": "1001"}
    # (1000 - 999.5) / 1000 + 0.5 = 0.5005 of 255.
    check(write("a", values, **more), [[0, 128], [255, 255]], Flag.HIGH_BIT, Flag.WINDOWED)


def test_signed_cells_at_the_top(write):
    values = np.array([[-2048, -1], [0, 2047]], np.int16)
    path = write("a", values << 4, BitsStored=12, HighBit=15)
    check(path, [[0, 127], [128, 255]], Flag.HIGH_BIT, Flag.MIN_MAX)


def test_other_bits_are_ignored_and_flagged(write, ramp):
    values = ramp.astype(np.uint16) | 0x4100
    check(write("a", values, BitsStored=8, HighBit=7), ramp, Flag.UNUSED_BITS)


def test_an_overlay_plane_above_the_values_is_no_contradiction(tmp_path, build, ramp):
    dataset = build(ramp.astype(np.uint16) | 0x1000, BitsStored=8, HighBit=7)
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    check(tmp_path / "a", ramp, Flag.OVERLAY)


@pytest.mark.parametrize("allocated", [8, 16])
@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_codestream_of_more_bits_than_stored(write, ramp, allocated, syntax):
    """The codestream has 12 bits, the header says 8: the low byte would be wrong."""
    values = ramp.astype(np.uint16) * 16
    encode = jpeg_ls.encode_array if syntax == JPEGLSLossless else jpeg_2000
    data = {"syntax": syntax, "PixelData": encapsulate([bytes(encode(values))])}
    path = write("a", ramp, BitsAllocated=allocated, **data)
    expected = np.rint(ramp / 250 * 255)  # from 0 to 250
    check(path, expected, Flag.BEYOND_BITS_STORED)


def test_codestream_of_as_many_bits_as_stored(write, ramp):
    values = ramp.astype(np.uint16) * 16
    data = encapsulate([bytes(jpeg_ls.encode_array(values))])
    more = {"syntax": JPEGLSLossless, "BitsStored": 12, "HighBit": 11}
    check(write("a", values, PixelData=data, **more), np.rint(ramp / 250 * 255), Flag.MIN_MAX)


@pytest.mark.parametrize(
    "elements",
    [
        {"BitsStored": 12},
        {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "Rows": 10, "Columns": 20},
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "YBR_FULL_422"},
    ],
)
def test_headers_that_contradict_themselves_are_refused(write, ramp, elements):
    assert code(write("a", ramp, **elements)) is Code.DAMAGED_HEADER


# JPEG 2000: the component transform.


def jpeg_2000(values, **options):
    file = io.BytesIO()
    image = Image.fromarray(values)
    image.save(file, "JPEG2000", irreversible=False, no_jp2=True, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "transformed", "is_rgb", "flags"),
    [
        ("YBR_RCT", 1, True, ()),
        ("YBR_ICT", 1, True, ()),
        ("RGB", 0, True, ()),
        ("YBR_FULL", 0, False, ()),
        ("RGB", 1, True, (Flag.COLOUR_SPACE,)),
        ("YBR_FULL", 1, True, (Flag.COLOUR_SPACE,)),
        ("YBR_FULL_422", 1, True, (Flag.COLOUR_SPACE,)),
        ("YBR_RCT", 0, True, (Flag.COLOUR_SPACE,)),
        ("YBR_ICT", 0, True, (Flag.COLOUR_SPACE,)),
    ],
)
def test_component_transform(write, colours, kind, transformed, is_rgb, flags):
    data = encapsulate([jpeg_2000(colours, mct=transformed)])
    more = {"syntax": JPEG2000Lossless, "PhotometricInterpretation": kind}
    path = write("a", colours, PixelData=data, **more)
    check(path, luma(colours) if is_rgb else colours[..., 0], *flags)


def test_component_transform_is_told_in_a_jp2_container_too(write, colours):
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "JPEG2000", irreversible=False, mct=1)
    more = {"syntax": JPEG2000Lossless, "PhotometricInterpretation": "YBR_FULL"}
    path = write("a", colours, PixelData=encapsulate([file.getvalue()]), **more)
    check(path, luma(colours), Flag.COLOUR_SPACE)


# JPEG: colours and end.

ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # and the transform
JFIF = slice(2, 20)


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 90} | options)
    return file.getvalue()


def y_of(stream):
    image = Image.open(io.BytesIO(stream))
    image.draft("YCbCr", image.size)
    return np.asarray(image)[..., 0]


def bare(stream, put=b""):
    assert stream[JFIF].startswith(b"\xff\xe0\0\x10JFIF")
    return stream[: JFIF.start] + put + stream[JFIF.stop :]


def of_jpeg(write, stream, **elements):
    values = np.zeros((20, 30, 3), np.uint8)
    more = {"syntax": JPEGBaseline8Bit, "PixelData": encapsulate([stream])} | elements
    return write("a", values, **more)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2"])
def test_bare_jpeg_that_is_subsampled_is_no_rgb(write, colours, subsampling):
    stream = jpeg(Image.fromarray(colours), subsampling=subsampling)
    path = of_jpeg(write, bare(stream), PhotometricInterpretation="RGB")
    check(path, y_of(stream), Flag.LOSSY, Flag.COLOUR_SPACE)


def test_bare_jpeg_that_is_not_subsampled_may_be_rgb(write, colours):
    planes = Image.merge("YCbCr", Image.fromarray(colours).split())  # stored as they are
    stream = jpeg(planes, subsampling="4:4:4")
    opened = Image.open(io.BytesIO(stream))
    opened.draft("YCbCr", opened.size)
    path = of_jpeg(write, bare(stream), PhotometricInterpretation="RGB")
    check(path, luma(np.asarray(opened)), Flag.LOSSY)


@pytest.mark.parametrize("put", [None, ADOBE + b"\1"])
def test_markers_of_ycbcr_stand_above_a_header_of_rgb(write, colours, put):
    stream = jpeg(Image.fromarray(colours))
    path = of_jpeg(write, stream if put is None else bare(stream, put))
    check(path, y_of(stream), Flag.LOSSY, Flag.COLOUR_SPACE)


def test_a_marker_of_rgb_stands_above_a_header_of_ybr(write, colours):
    planes = Image.merge("YCbCr", Image.fromarray(colours).split())
    stream = bare(jpeg(planes, subsampling="4:4:4"), ADOBE + b"\0")
    expected = luma(np.asarray(Image.open(io.BytesIO(stream)).convert("RGB")))
    path = of_jpeg(write, stream, PhotometricInterpretation="YBR_FULL")
    check(path, expected, Flag.LOSSY, Flag.COLOUR_SPACE)


def test_samples_of_the_codestream_count(write, ramp, colours):
    gray = jpeg(Image.fromarray(ramp))
    path = of_jpeg(write, gray)
    check(path, np.asarray(Image.open(io.BytesIO(gray))), Flag.LOSSY, Flag.SAMPLES)
    colour = jpeg(Image.fromarray(colours))
    more = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    check(of_jpeg(write, colour, **more), y_of(colour), Flag.LOSSY, Flag.SAMPLES)


STREAMS = {
    "gray": (1, {}),
    "colour": (3, {}),
    "restarts": (3, {"restart_marker_blocks": 1}),
    "rows of restarts": (1, {"restart_marker_rows": 1}),
}


@pytest.fixture(params=STREAMS)
def complete(request):
    """A JPEG of noise, and its gray levels."""
    samples, options = STREAMS[request.param]
    values = np.random.default_rng(2).integers(0, 256, (20, 30, samples), np.uint8)
    stream = jpeg(Image.fromarray(values.squeeze()), **options)
    image = Image.open(io.BytesIO(stream))
    return samples, stream, np.asarray(image) if samples == 1 else y_of(stream)


def without_end(write, samples, stream):
    kind = "YBR_FULL_422" if samples == 3 else "MONOCHROME2"
    return of_jpeg(write, stream, SamplesPerPixel=samples, PhotometricInterpretation=kind)


def test_jpeg_without_its_end_marker(write, complete):
    samples, stream, levels = complete
    assert stream.endswith(b"\xff\xd9")
    for end in (b"", b"\0", b"\xff"):
        path = without_end(write, samples, stream[:-2] + end)
        check(path, levels, Flag.LOSSY, Flag.NO_END_MARKER)
    # As much behind the end as one likes is no matter.
    check(without_end(write, samples, stream + b"7" * 9000), levels, Flag.LOSSY)


def test_jpeg_that_ends_before_its_last_pixel_is_refused(write, complete):
    samples, stream, levels = complete
    scan, end = stream.index(b"\xff\xda"), len(stream) - 2
    read = []
    for size in (*range(scan + 20, end - 40, 7), *range(end - 40, end)):
        frame = read_frame(without_end(write, samples, stream[:size]))
        if isinstance(frame, Refusal):
            assert frame.code is Code.DECODE_FAILED
        else:  # what is lost is of the colours of the last blocks, which are not decoded
            np.testing.assert_array_equal(frame.pixels, levels)
            read.append(size)
    if samples == 1:
        assert read == []
    assert all(end - size < 60 for size in read)


def test_progressive_jpeg_without_its_end_marker_is_refused(write, colours):
    """Nobody can tell how many scans there were."""
    stream = jpeg(Image.fromarray(colours), progressive=True)
    check(without_end(write, 3, stream), y_of(stream), Flag.LOSSY)
    assert read_frame(without_end(write, 3, stream[:-2])).code is Code.DECODE_FAILED


def test_lossless_jpeg_without_its_end_marker(write, ramp, monkeypatch):
    monkeypatch.syspath_prepend(".")
    from benchmarks.dicom_encoders import jpeg_lossless

    stream = jpeg_lossless(ramp)
    more = {"syntax": JPEGLosslessSV1}
    path = write("a", ramp, PixelData=encapsulate([stream[:-2]]), **more)
    check(path, ramp, Flag.NO_END_MARKER)
    path = write("b", ramp, PixelData=encapsulate([stream[:-40]]), **more)
    assert read_frame(path).code is Code.DECODE_FAILED


# Remedies that help.


@pytest.mark.parametrize("syntax", ["100", "101", "102", "103.1", "104", "106.1", "107", "108"])
def test_video_is_named_without_the_extra(write, ramp, syntax, monkeypatch):
    monkeypatch.setattr(reader, "can_read_video", lambda: False)
    more = {"PhotometricInterpretation": "YBR_PARTIAL_420", "NumberOfFrames": 90}
    data = encapsulate([b"12"])
    path = write("a", ramp, syntax=f"1.2.840.10008.1.2.4.{syntax}", PixelData=data, **more)
    assert code(path) is Code.VIDEO
    assert "tf-dicom-ce[codecs]" in Code.VIDEO.remedy
    assert Code.VIDEO.may_pass


def test_pixels_that_lie_elsewhere(write, ramp):
    """A JPIP file has an address instead of pixels."""
    path = write("a", ramp, syntax="1.2.840.10008.1.2.4.94", PixelData=None)
    assert code(path) is Code.UNSUPPORTED_TRANSFER_SYNTAX


def test_12_bit_jpeg_without_the_extra(write, ramp, monkeypatch):
    monkeypatch.setattr(decoders, "_has_wide_jpeg", lambda: False)
    stream = jpeg(Image.fromarray(ramp)).replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c")
    more = {"syntax": JPEGExtended12Bit, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    refused = read_frame(write("a", ramp, PixelData=encapsulate([stream]), **more))
    assert refused == Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, "12-bit JPEG")
    assert "uncompressed" in refused.code.remedy
    assert "tf-dicom-ce[codecs]" in refused.code.remedy
