import numpy as np
import pytest
from pydicom import Dataset

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import Code, Frame, read_frame, read_header
from tf_dicom_ce.dicom.regions import Region, crop_region


def region(x0, y0, x1, y1, spatial_format=1, data_type=1):
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial_format, data_type
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item


def header(*regions):
    dataset = Dataset()
    dataset.Rows, dataset.Columns = 100, 200
    dataset.SequenceOfUltrasoundRegions = list(regions)
    return dataset


def test_no_region():
    dataset = header()
    assert crop_region(dataset) == (None, ())
    del dataset.SequenceOfUltrasoundRegions
    assert crop_region(dataset) == (None, ())


def test_maxima_are_inclusive():
    crop, flags = crop_region(header(region(10, 20, 109, 79)))
    assert crop.slices == (slice(20, 80), slice(10, 110))
    assert flags == (Flag.CROPPED,)


def test_region_of_the_whole_image_is_no_crop():
    whole = Region(0, 0, 100, 200)
    assert crop_region(header(region(0, 0, 199, 99))) == (whole, ())


def test_a_maximum_that_is_the_size_is_not_worth_a_flag():
    crop, flags = crop_region(header(region(10, 20, 200, 100)))
    assert crop.slices == (slice(20, 100), slice(10, 200))
    assert flags == (Flag.CROPPED,)


def test_region_is_clamped():
    crop, flags = crop_region(header(region(100, 50, 220, 120)))
    assert crop.slices == (slice(50, 100), slice(100, 200))
    assert flags == (Flag.CLAMPED, Flag.CROPPED)


@pytest.mark.parametrize(
    "box",
    [
        (150, 0, 349, 99),  # a quarter of it lies in the image
        (50, 50, 40, 90),  # empty
        (0, 0, 0, 0),
        (10, 10, 20, 90),  # 11 pixels wide
        (300, 10, 400, 90),  # outside
    ],
)
def test_implausible_region_is_ignored(box):
    assert crop_region(header(region(*box))) == (None, (Flag.IMPLAUSIBLE_REGION,))


def test_largest_tissue_region_is_taken():
    crop, flags = crop_region(
        header(
            region(0, 0, 199, 99, spatial_format=3),  # spectral Doppler
            region(0, 0, 199, 90, data_type=10),  # ECG
            region(0, 0, 40, 40),
            region(60, 0, 159, 49, data_type=2),  # colour flow
        )
    )
    assert crop.slices == (slice(0, 50), slice(60, 160))
    assert flags == (Flag.SEVERAL_REGIONS, Flag.TWO_PANES, Flag.CROPPED)


def test_of_two_equal_panes_the_first_is_taken():
    crop, _ = crop_region(header(region(0, 0, 99, 99), region(100, 0, 199, 99)))
    assert crop.slices == (slice(0, 100), slice(0, 100))


@pytest.mark.parametrize(
    ("second", "apart"),
    [
        ((98, 0, 199, 99), True),  # they share their border
        ((100, 60, 199, 99), True),
        ((20, 20, 80, 80), False),  # a colour box in the tissue
        ((40, 0, 199, 99), False),  # more of it within than without
        ((190, 0, 199, 99), False),  # too narrow for a pane
        ((300, 0, 399, 99), False),  # outside of the image
    ],
)
def test_two_panes(second, apart):
    _, flags = crop_region(header(region(0, 0, 100, 99), region(*second, data_type=2)))
    assert (Flag.TWO_PANES in flags) == apart
    assert Flag.SEVERAL_REGIONS in flags


@pytest.mark.parametrize("data_type", [None, 0])
def test_region_without_a_data_type_is_taken_if_there_is_no_other(data_type):
    untyped = region(10, 20, 109, 79)
    del untyped.RegionDataType
    if data_type is not None:
        untyped.RegionDataType = data_type
    crop, flags = crop_region(header(untyped, region(0, 0, 9, 99, data_type=13)))
    assert crop.slices == (slice(20, 80), slice(10, 110))
    assert flags == (Flag.UNTYPED_REGION, Flag.CROPPED)
    crop, flags = crop_region(header(untyped, region(120, 20, 159, 79)))
    assert crop.slices == (slice(20, 80), slice(120, 160))
    assert flags == (Flag.CROPPED,)


@pytest.mark.parametrize(
    "item",
    [
        region(0, 0, 99, 99, spatial_format=0, data_type=0),
        region(0, 0, 99, 99, spatial_format=0),  # tissue, in a way that is not told
        region(0, 0, 9, 99, data_type=13),  # a gray bar
    ],
)
def test_regions_that_name_no_tissue(write, ramp, item):
    assert crop_region(header(item)) == (None, (Flag.NO_TISSUE_REGION,))
    path = write("a", ramp, SequenceOfUltrasoundRegions=[item])
    np.testing.assert_array_equal(read_frame(path).pixels, ramp)


M_MODE, SPECTRAL, TRACE = (2, 1), (3, 3), (4, 10)
SCREEN, TISSUE, UNTYPED, BAR = (0, 0), (1, 1), (1, 0), (1, 13)


@pytest.mark.parametrize(
    ("kinds", "is_2d"),
    [
        ([M_MODE], False),
        ([SPECTRAL], False),
        ([TRACE], False),
        ([(5, 0)], False),
        ([(0, 4)], False),  # CW Doppler in a way that is not told
        ([SCREEN, SPECTRAL, TRACE], False),
        ([BAR, M_MODE], False),
        ([SPECTRAL, TISSUE], True),
        ([(1, 2), TRACE], True),
        ([M_MODE, UNTYPED], True),
        ([SPECTRAL, (0, 1)], True),
        ([SCREEN], True),
        ([BAR], True),
        ([], True),
    ],
)
def test_what_shows_no_2d_tissue_is_skipped(write, ramp, kinds, is_2d):
    items = [region(0, 0, 29, 19, *kind) for kind in kinds]
    path = write("a", ramp, SequenceOfUltrasoundRegions=items)
    found = read_frame(path)
    if is_2d:
        assert isinstance(found, Frame)
    else:
        assert found == read_header(path)
        assert found.code is Code.NOT_2D
        assert found.code.is_skip


@pytest.mark.parametrize(
    ("elements", "has_colour"),
    [
        ({"UltrasoundColorDataPresent": 1}, True),
        ({"UltrasoundColorDataPresent": 0}, False),
        ({"SequenceOfUltrasoundRegions": [region(0, 0, 29, 19, data_type=2)]}, True),
        ({"SequenceOfUltrasoundRegions": [region(0, 0, 29, 19)]}, False),
    ],
)
def test_colour_doppler(write, ramp, elements, has_colour):
    assert read_frame(write("a", ramp, **elements)).flags == (Flag.COLOUR_DOPPLER,) * has_colour


def test_region_without_bounds_is_implausible():
    item = region(0, 0, 50, 50)
    del item.RegionLocationMaxX1
    assert crop_region(header(item)) == (None, (Flag.IMPLAUSIBLE_REGION,))


def test_frame_is_cropped_before_its_range_is_measured(write):
    values = np.full((40, 60), 65535, np.uint16)
    values[10:30, 20:50] = np.arange(600).reshape(20, 30)
    path = write("a", values, SequenceOfUltrasoundRegions=[region(20, 10, 49, 29)])
    frame = read_frame(path)
    assert frame.pixels.shape == (20, 30)
    assert (frame.pixels.min(), frame.pixels.max()) == (0, 255)
    assert Flag.CROPPED in frame.flags
