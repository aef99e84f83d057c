"""Many frames of one file."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

from tf_dicom_ce.dicom import decoders, encapsulated
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import Code, Frame, Refusal, read_frame, read_frames, read_header


def jpeg(level):
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30), level, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def levels(path, indices):
    """The gray level of each frame, all of which are of one gray."""
    found = []
    for frame in read_frames(path, indices):
        assert isinstance(frame, Frame), frame
        assert np.ptp(frame.pixels) == 0
        found.append(int(frame.pixels[0, 0]))
    return found


GRAYS = [10, 60, 110, 160, 210]


def cine(write, ramp, data, **elements):
    elements = {"syntax": JPEGBaseline8Bit, "NumberOfFrames": len(GRAYS)} | elements
    return write("a", ramp, PixelData=data, **elements)


def items(parts, table=b""):
    parts = [part + b"\0" * (len(part) % 2) for part in (table, *parts)]
    return b"".join(b"\xfe\xff\0\xe0" + struct.pack("<L", len(part)) + part for part in parts)


def halves(streams):
    """Two fragments for each frame."""
    return [part for s in streams for part in (s[:300], s[300:])]


def offsets(parts, step):
    """Where each frame of `step` fragments starts."""
    sizes = [8 + len(part) + len(part) % 2 for part in parts]
    return [sum(sizes[:i]) for i in range(0, len(parts), step)]


@pytest.fixture
def streams():
    return [jpeg(gray) for gray in GRAYS]


def test_one_result_for_each_index(write, ramp, streams):
    path = cine(write, ramp, encapsulate(streams))
    assert levels(path, range(5)) == GRAYS
    assert levels(path, [4, 0, 4]) == [210, 10, 210]
    assert levels(path, None) == [110]
    assert levels(path, []) == []
    results = list(read_frames(path, [0, 5, -1, 4]))
    assert [type(r) for r in results] == [Frame, Refusal, Refusal, Frame]
    assert results[1].code is Code.FRAME_OUT_OF_RANGE


def test_compression_is_that_of_all_frames(write, ramp, streams):
    path = cine(write, ramp, encapsulate(streams))  # which pads each to an even length
    padded = sum(len(stream) + len(stream) % 2 for stream in streams)
    assert read_frame(path).compression == len(GRAYS) * 20 * 30 / padded
    assert read_frame(write("b", ramp)).compression == 1


def test_refused_file_gives_as_many_refusals(tmp_path):
    refused = Refusal(Code.OS_ERROR, "FileNotFoundError")
    assert list(read_frames(tmp_path / "none", [1, 2])) == [refused] * 2
    assert list(read_frames(tmp_path / "none")) == [refused]


def test_one_damaged_frame_does_no_harm_to_others(write, ramp, streams):
    streams[2] = streams[2][:100]
    results = list(read_frames(cine(write, ramp, encapsulate(streams)), range(5)))
    assert [isinstance(result, Frame) for result in results] == [True, True, False, True, True]
    assert results[2].code is Code.DECODE_FAILED


def test_native_frames(write, ramp):
    frames = np.stack([ramp + i for i in range(4)])
    path = write("a", ramp, NumberOfFrames=4, PixelData=frames.tobytes())
    for frame, expected in zip(read_frames(path, range(4)), frames, strict=True):
        np.testing.assert_array_equal(frame.pixels, expected)


def test_basic_offset_table(write, ramp, streams):
    parts = halves(streams)
    table = struct.pack("<5L", *offsets(parts, 2))
    assert levels(cine(write, ramp, items(parts, table)), range(5)) == GRAYS


@pytest.mark.parametrize("wrong", [[0, 1, 2, 3, 4], [0] * 5, [9], [], [0, 2**31, 5, 6, 7]])
@pytest.mark.parametrize("fragmented", [False, True])
def test_wrong_offset_table_is_not_believed(write, ramp, streams, wrong, fragmented):
    parts = halves(streams) if fragmented else streams
    table = struct.pack(f"<{len(wrong)}L", *wrong)
    assert levels(cine(write, ramp, items(parts, table)), range(5)) == GRAYS


@pytest.mark.parametrize("shift", [0, 2])
def test_extended_offset_table(write, ramp, streams, shift):
    data, table, lengths = encapsulate_extended(streams)
    found = np.frombuffer(table, "<u8") + shift
    more = {"ExtendedOffsetTable": found.tobytes(), "ExtendedOffsetTableLengths": lengths}
    assert levels(cine(write, ramp, data, **more), range(5)) == GRAYS
    parts = halves(streams)
    table = (np.array(offsets(parts, 2), "<u8") + shift).tobytes()
    more = {"ExtendedOffsetTable": table, "ExtendedOffsetTableLengths": lengths}
    assert levels(cine(write, ramp, items(parts), **more), range(5)) == GRAYS


def test_fragments_that_no_table_explains(write, ramp):
    parts = [b"\0" * 80] * 7
    path = cine(write, ramp, items(parts), syntax=RLELossless)
    assert isinstance(read_header(path), Dataset)
    assert [refusal.code for refusal in read_frames(path, range(5))] == [Code.DECODE_FAILED] * 5


def test_items_are_walked_once(write, ramp, streams, monkeypatch):
    calls = []
    walk = encapsulated.walk
    monkeypatch.setattr(encapsulated, "walk", lambda *args: calls.append(1) or walk(*args))
    assert levels(cine(write, ramp, encapsulate(streams)), range(5)) == GRAYS
    assert len(calls) == 1


@pytest.mark.parametrize("precision", [12, 16])
def test_more_than_8_bits_of_jpeg_are_refused_by_name(write, ramp, precision, monkeypatch):
    monkeypatch.setattr(decoders, "_has_wide_jpeg", lambda: False)
    stream = jpeg(9).replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b" + bytes([precision]))
    more = {"syntax": JPEGExtended12Bit, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    path = write("a", ramp, PixelData=encapsulate([stream]), **more)
    expected = Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, f"{precision}-bit JPEG")
    assert read_frame(path) == expected


def test_other_classes_are_read_if_named(write, ramp):
    secondary_capture = "1.2.840.10008.5.1.4.1.1.7"
    path = write("a", ramp, SOPClassUID=secondary_capture)
    assert read_frame(path).code is Code.NOT_ULTRASOUND
    classes = frozenset({secondary_capture})
    assert isinstance(read_frame(path, classes=classes), Frame)
    assert isinstance(read_header(path, classes), Dataset)
    assert read_header(write("b", ramp), classes).code is Code.NOT_ULTRASOUND


def test_header_of_any_length_is_read(write, ramp):
    path = write("a", ramp, ImageComments="x" * 10_000)
    header = read_header(path)
    assert len(header.ImageComments) == 10_000
    long = write("b", ramp, TextValue="y" * 100_000)
    assert len(read_header(long).TextValue) == 100_000
    np.testing.assert_array_equal(read_frame(long).pixels, ramp)


def test_element_of_more_than_256_kilobytes_is_left_out(write, ramp):
    path = write("a", ramp, TextValue="y" * 300_000)
    header = read_header(path)
    assert "TextValue" not in header
    assert header.Rows == 20
    np.testing.assert_array_equal(read_frame(path).pixels, ramp)


def test_caller_is_not_silenced_between_frames(write, ramp):
    path = write("a", ramp, NumberOfFrames=2, PixelData=ramp.tobytes() * 2)
    frames = read_frames(path, range(2))
    next(frames)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
    frames.close()


def test_quiet_can_be_nested():
    with quiet():
        with quiet():
            warnings.warn("unheard", stacklevel=1)
        warnings.warn("unheard", stacklevel=1)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
