"""Files that yield no frame, and why."""

import os
import random
import socket
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tf_dicom_ce.dicom.reader import Code, Frame, Refusal, read_frame, read_header


def code(path):
    """The code of both readers, which must agree."""
    header, frame = read_header(path), read_frame(path)
    assert isinstance(header, Refusal), header
    assert header == frame
    return header.code


def test_every_code_has_a_remedy():
    assert all(member.remedy.endswith(".") for member in Code)
    assert {member for member in Code if member.is_skip} == {
        Code.NOT_REGULAR,
        Code.NOT_DICOM,
        Code.UNLISTED_PICTURE,
        Code.NOT_ULTRASOUND,
        Code.NOT_2D,
        Code.EXCLUDED,
        Code.NO_SECTOR,
        Code.COPY,
        Code.UNFAMILIAR,
        Code.CONTRADICTION,
    }


def test_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert code(tmp_path / "fifo") is Code.NOT_REGULAR


def test_socket_folder_and_link_are_not_regular(tmp_path, monkeypatch, write, ramp):
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (tmp_path / "link").symlink_to(write("target", ramp))
    assert code(tmp_path / "socket") is Code.NOT_REGULAR
    assert code(tmp_path / "link") is Code.NOT_REGULAR
    assert code(tmp_path) is Code.NOT_REGULAR
    assert isinstance(read_frame(tmp_path / "target"), Frame)


def test_missing_file_is_an_os_error(tmp_path):
    assert code(tmp_path / "none") is Code.OS_ERROR
    assert read_header(tmp_path / "none").detail == "FileNotFoundError"


def test_forbidden_file_is_an_os_error(write, ramp, monkeypatch):
    def forbid(*args, **kwargs):
        raise PermissionError  # as root, who may read everything, chmod would not do

    path = write("a", ramp)
    monkeypatch.setattr(os, "open", forbid)
    assert code(path) is Code.OS_ERROR


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 200, b"\x89PNG\r\n\x1a\n" + b"1" * 500])
def test_other_content_is_not_dicom(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert code(tmp_path / "a") is Code.NOT_DICOM


def test_random_bytes_are_not_dicom(tmp_path):
    rng = random.Random(3)
    for start in (b"", b"\x08\x00\x00\x00", b"\x02\x00\x00\x00", b"\x00\x08\x00\x05"):
        for size in (4, 131, 5000):
            (tmp_path / "a").write_bytes(start + rng.randbytes(size))
            assert code(tmp_path / "a") is Code.NOT_DICOM


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "rtdose.dcm", "test-SR.dcm", "liver_1frame.dcm"]
)
def test_other_modalities_are_not_ultrasound(name):
    path = get_testdata_file(name, download=False)
    assert code(path) is Code.NOT_ULTRASOUND


def test_modality_is_not_relied_on(write, ramp):
    assert isinstance(read_frame(write("a", ramp, Modality="CT")), Frame)
    secondary_capture = "1.2.840.10008.5.1.4.1.1.7"
    path = write("b", ramp, Modality="US", SOPClassUID=secondary_capture)
    assert code(path) is Code.NOT_ULTRASOUND
    assert read_header(path).detail == "SecondaryCaptureImageStorage"


@pytest.mark.parametrize("suffix", ["6.1", "3.1", "6", "3"])
def test_ultrasound_classes(write, ramp, suffix):
    path = write("a", ramp, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{suffix}")
    assert isinstance(read_header(path), Dataset)


def test_header_stops_before_the_pixels(write, ramp):
    header = read_header(write("a", ramp))
    assert header.Rows == 20
    assert "PixelData" not in header


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_truncated_native(write, ramp):
    path = write("a", ramp)
    whole = path.stat().st_size
    assert code(cut(path, whole - 1)) is Code.TRUNCATED
    assert code(cut(path, whole - 599)) is Code.TRUNCATED
    # Nothing of the element is left, not even its header of 12 bytes.
    assert code(cut(path, whole - 612)) is Code.TRUNCATED
    assert read_header(path).detail == "(7FE0,0010) 'Pixel Data'"


def test_truncated_header(write, ramp):
    path = write("a", ramp)
    content = path.read_bytes()
    start = content.index(b"\x10\0\x20\0LO\x02\0P1")
    for size in (1, 7, 9):  # within the tag and length of Patient ID, and within its value
        assert code(cut(path, start + size)) is Code.TRUNCATED
        path.write_bytes(content)
    # Between two elements nobody can tell.
    assert code(cut(path, start + 10)) is Code.NO_PIXELS


def test_truncated_last_frame(write, ramp):
    path = write("a", ramp, NumberOfFrames=3, PixelData=ramp.tobytes() * 2)
    assert code(path) is Code.TRUNCATED


def test_truncated_encapsulated(write, ramp):
    fragments = encapsulate([b"1" * 100, b"2" * 100])
    path = write("a", ramp, syntax=RLELossless, NumberOfFrames=2, PixelData=fragments)
    assert isinstance(read_header(path), Dataset)
    whole = path.stat().st_size
    assert code(cut(path, whole - 8 - 1)) is Code.TRUNCATED
    # A whole fragment is lost.
    assert code(cut(path, whole - 8 - 108)) is Code.TRUNCATED


def test_fragment_without_delimiter_or_with_uncounted_pad(write, ramp):
    literal = ramp.tobytes()
    packets = b"".join(
        bytes([len(literal[i : i + 15]) - 1]) + literal[i : i + 15] for i in range(0, 600, 15)
    )
    stream = np.array([1, 64, *[0] * 14], "<u4").tobytes() + packets
    path = write("a", ramp, syntax=RLELossless, PixelData=encapsulate([stream]))
    content = path.read_bytes()
    for tail in (b"", b"\0" + content[-8:]):
        path.write_bytes(content[:-8] + tail)
        np.testing.assert_array_equal(read_frame(path).pixels, ramp)


def test_no_pixels(write, ramp):
    assert code(write("a", ramp, PixelData=b"")) is Code.NO_PIXELS
    path = write("b", ramp, PixelData=None, Rows=None)
    assert code(path) is Code.NO_PIXELS


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "SamplesPerPixel", "BitsAllocated"])
def test_impossible_description_is_a_damaged_header(write, ramp, keyword):
    path = write("a", ramp, **{keyword: 0})
    assert code(path) is Code.DAMAGED_HEADER
    assert read_header(path).detail.startswith("(0028,")


def test_negative_number_of_frames_is_a_damaged_header(write, ramp):
    assert code(write("a", ramp, NumberOfFrames=-2)) is Code.DAMAGED_HEADER


def test_deep_nesting_is_refused(tmp_path, build, ramp):
    dataset = build(ramp)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    nested = b""
    for _ in range(3000):
        item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + nested + b"\xfe\xff\x0d\xe0\0\0\0\0"
        start = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
        nested = start + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    content = (tmp_path / "a").read_bytes()
    place = content.index(b"\x10\x00\x20\x00LO")
    (tmp_path / "a").write_bytes(content[:place] + nested + content[place:])
    assert code(tmp_path / "a") is Code.DAMAGED_HEADER
    # pydicom turns some errors into OSError; which one the last call gives depends on the stack.
    assert read_header(tmp_path / "a").detail in ("RecursionError", "OSError")


def test_bomb_is_not_inflated(write, ramp):
    path = write("a", ramp, syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    end = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(content[:end] + zeros * 300 + packer.flush())
    assert code(path) is Code.TOO_LARGE


def test_huge_frame_is_refused(write, ramp):
    assert code(write("a", ramp, Rows=60000, Columns=60000)) is Code.TOO_LARGE


@pytest.mark.parametrize("photometric", ["CMYK", "YBR_PARTIAL_420", "", None])
def test_unsupported_photometric(write, ramp, photometric):
    path = write("a", ramp, PhotometricInterpretation=photometric)
    assert code(path) is Code.UNSUPPORTED_PHOTOMETRIC


def test_unsupported_transfer_syntax(write, ramp):
    part_2 = "1.2.840.10008.1.2.4.92"
    path = write("a", ramp, syntax=part_2, PixelData=encapsulate([b"12"]))
    assert code(path) is Code.UNSUPPORTED_TRANSFER_SYNTAX


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_frame_out_of_range(write, ramp, index):
    path = write("a", ramp, NumberOfFrames=3, PixelData=ramp.tobytes() * 3)
    assert read_frame(path, index).code is Code.FRAME_OUT_OF_RANGE
    assert isinstance(read_frame(path, 2), Frame)


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless]
)
def test_damaged_stream_fails_to_decode(write, ramp, syntax):
    path = write("a", ramp, syntax=syntax, PixelData=encapsulate([b"\xff\xd8" + b"7" * 90]))
    assert isinstance(read_header(path), Dataset)
    assert read_frame(path).code is Code.DECODE_FAILED


def test_stream_larger_than_the_header_says_is_not_decoded(write, ramp):
    path = get_testdata_file("examples_jpeg2k.dcm", download=False)
    stream = dcmread(path).PixelData
    refused = read_frame(write("a", ramp, syntax=JPEG2000Lossless, PixelData=stream))
    assert refused.code is Code.DECODE_FAILED


def test_nothing_is_said_about_the_patient(write, ramp, capfd, caplog):
    """pydicom warns of a malformed value by quoting it."""
    path = write("a", ramp, PatientID="P1")
    content = path.read_bytes()
    # An Age of a wrong form, an unknown character set and a name that needs it.
    element = b"\x10\x00\x10\x10AS\x06\x00SECRET"
    charset = b"\x08\x00\x05\x00CS\x06\x00SECRET"
    at_charset = content.index(b"\x08\x00\x16\x00UI")
    content = content[:at_charset] + charset + content[at_charset:]
    at = content.index(b"\x20\x00\x0d\x00UI")
    path.write_bytes(content[:at] + element + content[at:])
    assert isinstance(read_frame(path), Frame)
    path.write_bytes(content[:at] + element + content[at : at + 100])
    refusal = read_frame(path)
    said = [*capfd.readouterr(), caplog.text, repr(refusal)]
    assert not any("SECRET" in text for text in said)


def test_mutated_files_raise_nothing(tmp_path, write, ramp):
    """Any content gives a frame or a refusal; warnings are errors here."""
    rng = random.Random(11)
    names = ("examples_ybr_color.dcm", "examples_palette.dcm", "ExplVR_BigEnd.dcm")
    sources = [Path(get_testdata_file(name, download=False)) for name in names]
    contents = [path.read_bytes() for path in (*sources, write("b", ramp))]
    results = []
    for _ in range(200):
        content = bytearray(rng.choice(contents))
        for _ in range(rng.choice((1, 5, 30))):
            content[rng.randrange(128, min(len(content), 3000))] = rng.randrange(256)
        (tmp_path / "a").write_bytes(content)
        results.append(read_frame(tmp_path / "a"))
    assert all(isinstance(result, (Frame, Refusal)) for result in results)
    assert {type(result) for result in results} == {Frame, Refusal}
