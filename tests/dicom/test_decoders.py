"""Compressed pixels, from streams that were written another way."""

import io
import time

import jpeg_ls
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tf_dicom_ce.dicom import reader


def pillow_luma(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))


def pixels(path):
    frame = reader.read_frame(path)
    assert isinstance(frame, reader.Frame), frame
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.flags.c_contiguous
    return frame.pixels


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


@pytest.mark.parametrize("transform", [0, 1])
def test_adobe_marker_tells_rgb_from_ycbcr(write, colours, transform):
    stream = jpeg(Image.fromarray(colours), quality=90)
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    # Without the JFIF segment, which would win.
    stream = stream[:2] + adobe + stream[20:]
    image = Image.open(io.BytesIO(stream))
    if transform:
        image.draft("YCbCr", image.size)
        expected = np.asarray(image)[..., 0]
    else:
        expected = image.convert("L")
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


def test_jpeg_ls_without_an_end_is_refused_soon(write):
    """CharLS counts zeros behind the end for seconds, unless it finds a marker there."""
    values = np.random.default_rng(1).integers(0, 256, (80, 96, 3), np.uint8)
    stream = compressed(values, JPEGLSLossless)
    start = time.perf_counter()
    for size in range(60, 72):
        data = encapsulate([stream[:size]])
        refused = reader.read_frame(write("a", values, syntax=JPEGLSLossless, PixelData=data))
        assert refused.code is reader.Code.DECODE_FAILED
    assert time.perf_counter() - start < 2
