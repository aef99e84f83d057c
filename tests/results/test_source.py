"""A source is the reader's frame, with its number, its place and what of the header is told."""

import pickle

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file

from tf_dicom_ce.dicom import part10
from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.dicom.refusals import Code
from tf_dicom_ce.results.source import open_image


def region(top, left, height, width):
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = top, top + height - 1
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = left, left + width - 1
    return Sequence([item])


def test_pixels_are_those_of_the_region(write, ramp):
    path = write("a", ramp, SequenceOfUltrasoundRegions=region(2, 5, 17, 20))
    source = open_image(path)
    assert source.region == (2, 5, 17, 20)
    assert source.frame == 0
    np.testing.assert_array_equal(source.pixels, ramp[2:19, 5:25])
    assert source.header["PatientID"] == "P1"
    assert source.shape == ramp.shape


def test_without_a_region_it_is_all(write, ramp):
    source = open_image(write("a", ramp))
    assert source.region == (0, 0, 20, 30)
    np.testing.assert_array_equal(source.pixels, ramp)


@pytest.mark.parametrize(("asked", "given"), [(None, 1), (0, 0), (2, 2)])
def test_frames_of_a_cine(cine, ramp, asked, given):
    source = open_image(cine(), frame=asked)
    assert source.frame == given
    np.testing.assert_array_equal(source.pixels, (ramp, ramp // 2, 255 - ramp)[given])


def test_refusals_come_through(cine, write, ramp, tmp_path):
    assert open_image(tmp_path / "none").code == Code.OS_ERROR
    assert open_image(cine(), frame=3).code == Code.FRAME_OUT_OF_RANGE
    ct = write("ct", ramp, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert open_image(ct).code == Code.NOT_ULTRASOUND
    assert open_image(ct, frozenset({"1.2.840.10008.5.1.4.1.1.2"})).region == (0, 0, 20, 30)


def test_the_sector_is_where_the_reader_finds_it(write):
    picture = np.zeros((120, 160), np.uint8)
    picture[30:100, 40:120] = np.random.default_rng(0).integers(60, 200, (70, 80))
    path = write("a", picture)
    rows, columns = read_frame(path, find_sector=True).region.slices
    assert (rows.start, columns.start) != (0, 0)
    top, left, height, width = open_image(path, find_sector=True).region
    assert (top, left) == (rows.start, columns.start)
    assert (top + height, left + width) == (rows.stop, columns.stop)


def test_a_source_travels_between_processes():
    source = open_image(get_testdata_file("examples_ybr_color.dcm"))
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.pixels, source.pixels)
    assert copy.header == source.header
    assert copy.header["SOPInstanceUID"]


def test_a_header_is_parsed_once(cine, monkeypatch):
    parsed, parse = [], part10.parse
    monkeypatch.setattr(part10, "parse", lambda file: parsed.append(file) or parse(file))
    assert open_image(cine()).header["PatientID"] == "P1"
    assert len(parsed) == 1


def test_a_deep_header_travels_too(write, ramp):
    """So deep that pickle may give up on it, yet it can be read."""
    path, inner = write("a", ramp), Dataset()
    for _ in range(100):
        outer = Dataset()
        outer.add_new(0x00091001, "SQ", Sequence([inner]))
        outer[0x00091001].is_undefined_length = True
        inner = outer
    dataset = dcmread(path)
    dataset.update(inner)
    dataset.save_as(path)
    assert pickle.loads(pickle.dumps(open_image(path))).header["PatientID"] == "P1"


def test_pictures_are_sources_without_a_header(tmp_path):
    pixels = np.arange(600, dtype=np.uint8).reshape(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = open_image(tmp_path / "a.png")
    np.testing.assert_array_equal(source.pixels, pixels)
    assert (source.region, source.frame) == ((0, 0, 20, 30), 0)
    assert (source.header, source.shape) == (None, (20, 30))
    assert open_image(tmp_path / "a.png", frame=1).code is Code.FRAME_OUT_OF_RANGE
