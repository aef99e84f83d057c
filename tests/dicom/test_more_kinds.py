"""Enhanced US volumes, captured screens, video, and JPEG of 12 and 16 bits."""

import subprocess

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGExtended12Bit, JPEGLosslessSV1

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import SECONDARY_CAPTURE, ULTRASOUND
from tf_dicom_ce.dicom.reader import Code, Refusal, read_frame, read_frames
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.rules import SchemaError
from tf_dicom_ce.tags.schema import TagSchema

VOLUME, CAPTURE = "1.2.840.10008.5.1.4.1.1.6.2", "1.2.840.10008.5.1.4.1.1.7"
CINE = "1.2.840.10008.5.1.4.1.1.3.1"
SHAPE = (4, 20, 30)
SOURCE = "testsrc2=size=128x96:rate=25:duration=1"
# Transfer syntax, coder and container of what DICOM has: MPEG-2, H.264 in MP4 and as a transport
# stream, H.265.
VIDEOS = [
    ("100", "mpeg2video", "mpg"),
    ("102", "libx264", "mp4"),
    ("102", "libx264", "ts"),
    ("102.1", "libx264", "h264"),
    ("107", "libx265", "mp4"),
]


def kinds(*names):
    """Items of functional groups of (0018,9808) Data Type."""
    groups = []
    for name in names:
        group, item = Dataset(), Dataset()
        item.DataType = name
        group.ImageDataTypeSequence = [item]
        groups.append(group)
    return groups


@pytest.fixture
def frames():
    return np.random.default_rng(8).integers(0, 256, SHAPE, np.uint8)


@pytest.fixture
def volume(write, frames):
    def write_volume(**elements):
        more = {"SOPClassUID": VOLUME, "NumberOfFrames": len(frames)} | elements
        return write("volume", frames[0], PixelData=frames.tobytes(), **more)

    return write_volume


def test_a_volume_is_read_frame_by_frame(volume, frames, program, tmp_path):
    path = volume(SharedFunctionalGroupsSequence=kinds("TISSUE_INTENSITY"))
    found = list(read_frames(path, range(4)))
    np.testing.assert_array_equal([frame.pixels for frame in found], frames)
    # DCMTK's eyes.
    dcm2pnm = program("dcm2pnm", "dcmtk")
    for k in (0, 3):
        command = [dcm2pnm, "--frame", str(k + 1), "--write-raw-pnm", path, tmp_path / "out"]
        subprocess.run(command, check=True, capture_output=True)
        seen = np.frombuffer((tmp_path / "out").read_bytes()[-600:], np.uint8)
        np.testing.assert_array_equal(found[k].pixels, seen.reshape(20, 30))


def test_frames_that_show_no_tissue(volume, frames):
    types = ("TISSUE_INTENSITY", "FLOW_VELOCITY", "TISSUE_INTENSITY", "FLOW_POWER")
    found = list(read_frames(volume(PerFrameFunctionalGroupsSequence=kinds(*types)), range(4)))
    np.testing.assert_array_equal(found[2].pixels, frames[2])
    assert found[1] == found[3] == Refusal(Code.NOT_2D, "(0018,9808) 'Data Type'")
    shared = volume(SharedFunctionalGroupsSequence=kinds("FLOW_VELOCITY"))
    assert read_frame(shared).code is Code.NOT_2D


def test_captured_screens_are_asked_for(write, ramp, tmp_path):
    path = write("in/screen", ramp, SOPClassUID=CAPTURE, Modality="US")
    other = write("in/other", ramp, SOPClassUID=CAPTURE, Modality="CT")
    write("in/image", ramp[::-1])
    assert read_frame(path).code is Code.NOT_ULTRASOUND
    classes = ULTRASOUND | SECONDARY_CAPTURE
    np.testing.assert_array_equal(read_frame(path, classes=classes).pixels, ramp)
    refusal = Refusal(Code.NOT_ULTRASOUND, "(0008,0060) 'Modality'")
    assert read_frame(other, classes=classes) == refusal
    schema = TagSchema.load("ultrasound")
    assert [row.path for row in scan(tmp_path / "in", schema).rows] == ["image"]
    more = schema.including(["secondary-capture"])
    assert [row.path for row in scan(tmp_path / "in", more).rows] == ["image", "screen"]
    assert more.fingerprint == schema.fingerprint
    with pytest.raises(SchemaError, match="--include screens: choose secondary-capture"):
        schema.including(["screens"])


@pytest.fixture
def video(write, tmp_path, program):
    """Writes a cine of ffmpeg's test picture; returns its path, and the RGB that ffmpeg sees."""
    ffmpeg = program("ffmpeg", "ffmpeg")

    def write_video(syntax, coder, container, count=25, **elements):
        stream = tmp_path / f"stream.{container}"
        command = [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", SOURCE, "-c:v", coder]
        subprocess.run([*command, "-pix_fmt", "yuv420p", stream], check=True, capture_output=True)
        seen = [ffmpeg, "-v", "error", "-i", stream, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        seen = subprocess.run(seen, check=True, capture_output=True).stdout
        content = stream.read_bytes()
        elements = {
            "SOPClassUID": CINE,
            "NumberOfFrames": count,
            "PhotometricInterpretation": "YBR_PARTIAL_420",
            "PixelData": encapsulate([content + b"\0" * (len(content) % 2)], has_bot=False),
        } | elements
        syntax = f"1.2.840.10008.1.2.4.{syntax}"
        path = write("video", np.zeros((96, 128, 3), np.uint8), syntax=syntax, **elements)
        return path, np.frombuffer(seen, np.uint8).reshape(-1, 96, 128, 3)

    return write_video


def luma(rgb):
    return np.rint(rgb.astype(float) @ [0.299, 0.587, 0.114])


@pytest.mark.parametrize(("syntax", "coder", "container"), VIDEOS)
def test_video(video, syntax, coder, container):
    path, seen = video(syntax, coder, container)
    assert len(seen) == 25
    found = list(read_frames(path, [0, 24, 12, 12, 25]))
    for frame, k in zip(found, (0, 24, 12, 12), strict=False):
        assert Flag.LOSSY in frame.flags
        assert np.abs(frame.pixels - luma(seen[k])).max() <= 1
    assert found[4].code is Code.FRAME_OUT_OF_RANGE


def test_video_that_contradicts_its_header(video):
    path, _ = video("102", "libx264", "mp4", count=40)
    found = list(read_frames(path, [24, 30]))
    assert not isinstance(found[0], Refusal)
    assert found[1].code is Code.DECODE_FAILED
    assert read_frame(video("102", "libx264", "mp4", Rows=98)[0]).code is Code.DECODE_FAILED
    for content in (b"#EXTM3U\nfile:///etc/hostname\n", b"ffconcat version 1.0\n", b"\0\0\0\1"):
        path, _ = video("102", "libx264", "mp4", PixelData=encapsulate([content.ljust(40)]))
        assert read_frame(path).code is Code.DECODE_FAILED


@pytest.mark.parametrize(
    ("bits", "lossless"), [(12, False), (12, True), (16, True)], ids=["12", "12 lossless", "16"]
)
def test_jpeg_of_more_bits(write, bits, lossless, tmp_path, program):
    values = np.random.default_rng(2).integers(0, 1 << bits, (16, 24)).astype(np.uint16)
    values.sort(axis=1)
    more = {"bitspersample": bits} | ({"lossless": True} if lossless else {"level": 98})
    stream = imagecodecs.jpeg8_encode(values, **more)
    syntax = JPEGLosslessSV1 if lossless else JPEGExtended12Bit
    elements = {"BitsStored": bits, "HighBit": bits - 1, "PixelData": encapsulate([stream])}
    path = write("jpeg", values, syntax=syntax, **elements)
    # DCMTK's eyes.
    command = [program("dcmdjpeg", "dcmtk"), path, tmp_path / "plain"]
    subprocess.run(command, check=True, capture_output=True)
    found, seen = read_frame(path), read_frame(tmp_path / "plain")
    assert np.abs(found.pixels.astype(int) - seen.pixels).max() <= (0 if lossless else 1)
    assert Flag.MIN_MAX in found.flags
    assert Flag.MIN_MAX in seen.flags
    cut = write(
        "cut", values, syntax=syntax, **elements | {"PixelData": encapsulate([stream[:-40]])}
    )
    assert read_frame(cut).code is Code.DECODE_FAILED
