"""Every encoding: lossless, the same bytes twice, readable by our reader, valid to dciodvfy."""

import dataclasses
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.phantom.dicom_file import ENCODINGS, Picture, write
from tf_dicom_ce.phantom.studies import RawTags

REGION = (8, 10, 40, 42)
TAGS = RawTags("US BIOPSY LIVER FOCAL", ("SC6-1", "UNUSED", "UNUSED"), "", "")
NO_TAGS = RawTags(None, None, "missing", "missing")
EMPTY_TAGS = RawTags("", ("",), "empty", "empty")


def make(count=1, syntax=ExplicitVRLittleEndian, rgb=False, **changes):
    frames = np.random.default_rng(count).integers(0, 256, (count, 48, 64), np.uint8)
    picture = Picture(
        frames=frames,
        region=REGION,
        spacing=0.4,
        seed=7,
        vendor="SYNTHETIC A",
        patient="SYN-P00001",
        instance=1,
        tags=TAGS,
        syntax=syntax,
        rgb=rgb,
    )
    return dataclasses.replace(picture, **changes)


@pytest.fixture
def written(tmp_path):
    """Writes a picture and reads its data set."""

    def write_and_read(picture):
        write(picture, tmp_path / "a")
        return pydicom.dcmread(tmp_path / "a")

    return write_and_read


encodings = pytest.mark.parametrize(
    ("syntax", "rgb"), ENCODINGS, ids=lambda v: v.keyword if hasattr(v, "keyword") else str(v)
)
lengths = pytest.mark.parametrize("count", [1, 3])


@encodings
@lengths
def test_pixels_come_back(written, tmp_path, syntax, rgb, count):
    picture = make(count, syntax, rgb)
    dataset = written(picture)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.PhotometricInterpretation == ("RGB" if rgb else "MONOCHROME2")
    pixels = dataset.pixel_array.reshape(count, 48, 64, -1)
    np.testing.assert_array_equal(pixels, np.broadcast_to(picture.frames[..., None], pixels.shape))
    left, top, right, bottom = REGION
    frame = read_frame(tmp_path / "a")
    assert frame.region.slices == (slice(top, bottom), slice(left, right))
    expected = picture.frames[count // 2, top:bottom, left:right].astype(int)
    assert np.abs(frame.pixels - expected).max() <= 1  # the luma of an RGB gray may round


@encodings
@lengths
def test_same_bytes_twice(tmp_path, syntax, rgb, count):
    for name in "ab":
        write(make(count, syntax, rgb), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_cine_is_multi_frame(written):
    assert written(make(1)).SOPClassUID.name == "Ultrasound Image Storage"
    cine = written(make(3))
    assert cine.SOPClassUID.name == "Ultrasound Multi-frame Image Storage"
    assert cine.NumberOfFrames == 3
    assert cine[cine.FrameIncrementPointer].value == cine.FrameTime


def test_uids_tell_seeds_patients_and_instances_apart(written):
    def uids(**changes):
        dataset = written(make(**changes))
        return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID

    study, series, instance = uids()
    assert uids() == (study, series, instance)
    assert uids(instance=2)[:2] == (study, series)
    assert uids(instance=2)[2] != instance
    for change in ({"seed": 8}, {"patient": "SYN-P00002"}, {"vendor": "SYNTHETIC B"}):
        assert not set(uids(**change)) & {study, series, instance}


def test_says_that_it_is_synthetic_and_how_large_a_pixel_is(written):
    dataset = written(make())
    assert dataset.Manufacturer == "SYNTHETIC A"
    assert dataset.PatientName == "SYNTHETIC^PHANTOM"
    assert dataset.StudyDate == dataset.ContentDate == "20000101"
    (region,) = dataset.SequenceOfUltrasoundRegions
    assert region.PhysicalUnitsXDirection == region.PhysicalUnitsYDirection == 3  # cm
    assert region.PhysicalDeltaX == region.PhysicalDeltaY == pytest.approx(0.04)


def test_tags_stand_as_given(written):
    dataset = written(make())
    assert dataset.StudyDescription == "US BIOPSY LIVER FOCAL"
    assert list(dataset.TransducerData) == ["SC6-1", "UNUSED", "UNUSED"]
    missing = written(make(tags=NO_TAGS))
    assert "StudyDescription" not in missing
    assert "TransducerData" not in missing
    empty = written(make(tags=EMPTY_TAGS))
    assert not empty.StudyDescription
    assert not empty.TransducerData


@pytest.mark.slow
@encodings
@lengths
@pytest.mark.parametrize("tags", [TAGS, NO_TAGS, EMPTY_TAGS], ids=["tags", "missing", "empty"])
def test_dciodvfy_finds_no_error(program, tmp_path, syntax, rgb, count, tags):
    tool = program("dciodvfy", "dicom3tools")
    write(make(count, syntax, rgb, tags=tags), tmp_path / "a")
    result = subprocess.run([tool, tmp_path / "a"], capture_output=True, text=True)
    lines = (result.stdout + result.stderr).splitlines()
    assert ("USMultiFrameImage" if count > 1 else "USImage") in lines  # it knew the class
    assert not [line for line in lines if line.startswith("Error")]
