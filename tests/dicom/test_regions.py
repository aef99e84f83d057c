import numpy as np
import pytest
from pydicom import Dataset

from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.dicom.regions import CLAMPED, CROPPED, IMPLAUSIBLE, SEVERAL, crop_region


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
    assert crop == (slice(20, 80), slice(10, 110))
    assert flags == (CROPPED,)


def test_region_of_the_whole_image_is_no_crop():
    whole = (slice(0, 100), slice(0, 200))
    assert crop_region(header(region(0, 0, 199, 99))) == (whole, ())


def test_a_maximum_that_is_the_size_is_not_worth_a_flag():
    crop, flags = crop_region(header(region(10, 20, 200, 100)))
    assert crop == (slice(20, 100), slice(10, 200))
    assert flags == (CROPPED,)


def test_region_is_clamped():
    crop, flags = crop_region(header(region(100, 50, 220, 120)))
    assert crop == (slice(50, 100), slice(100, 200))
    assert flags == (CLAMPED, CROPPED)


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
    assert crop_region(header(region(*box))) == (None, (IMPLAUSIBLE,))


def test_largest_tissue_region_is_taken():
    crop, flags = crop_region(
        header(
            region(0, 0, 199, 99, spatial_format=3),  # spectral Doppler
            region(0, 0, 199, 90, data_type=10),  # ECG
            region(0, 0, 40, 40),
            region(60, 0, 159, 49, data_type=2),  # colour flow
        )
    )
    assert crop == (slice(0, 50), slice(60, 160))
    assert flags == (SEVERAL, CROPPED)


def test_of_two_equal_panes_the_first_is_taken():
    crop, _ = crop_region(header(region(0, 0, 99, 99), region(100, 0, 199, 99)))
    assert crop == (slice(0, 100), slice(0, 100))


def test_region_without_bounds_is_implausible():
    item = region(0, 0, 50, 50)
    del item.RegionLocationMaxX1
    assert crop_region(header(item)) == (None, (IMPLAUSIBLE,))


def test_frame_is_cropped_before_its_range_is_measured(write):
    values = np.full((40, 60), 65535, np.uint16)
    values[10:30, 20:50] = np.arange(600).reshape(20, 30)
    path = write("a", values, SequenceOfUltrasoundRegions=[region(20, 10, 49, 29)])
    frame = read_frame(path)
    assert frame.pixels.shape == (20, 30)
    assert (frame.pixels.min(), frame.pixels.max()) == (0, 255)
    assert CROPPED in frame.flags
