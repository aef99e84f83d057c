"""Flags from the header alone are those of the decoded frames."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, JPEG2000Lossless

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import Frame, inspect, read_frame


def flags(path):
    _, found = inspect(path)
    frame = read_frame(path)
    if isinstance(frame, Frame):
        assert frame.flags[: len(found)] == found
    return found


def region(**bounds):
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    for keyword, value in bounds.items():
        setattr(item, f"RegionLocation{keyword}", value)
    return item


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, ()),
        ({"PhotometricInterpretation": "MONOCHROME1"}, (Flag.INVERTED,)),
        ({"PixelRepresentation": 1}, (Flag.MIN_MAX,)),
        ({"PixelRepresentation": 1, "WindowCenter": 9, "WindowWidth": 9}, (Flag.WINDOWED,)),
        ({"PixelAspectRatio": [4, 3]}, (Flag.NOT_SQUARE,)),
        ({"PixelAspectRatio": [1, 1], "PixelSpacing": [1, 2]}, ()),
        ({"PixelSpacing": [0.2, 0.3]}, (Flag.NOT_SQUARE,)),
        ({"PixelSpacing": [0.2, 0.2]}, ()),
        ({"PixelSpacing": [0.2, 0]}, ()),
        ({"BurnedInAnnotation": "YES"}, (Flag.BURNED_IN,)),
        ({"BurnedInAnnotation": "NO"}, ()),
        ({"LossyImageCompression": "01"}, (Flag.LOSSY,)),
        ({"LossyImageCompression": "00"}, ()),
    ],
)
def test_flags_of_one_element(write, ramp, elements, expected):
    assert flags(write("a", ramp, **elements)) == expected


@pytest.mark.parametrize(
    ("down", "right", "expected"),
    [(0.02, 0.02, ()), (-0.02, 0.02, ()), (0.02, 0.03, (Flag.NOT_SQUARE,)), (0, 0.03, ())],
)
def test_scale_of_a_region(write, ramp, down, right, expected):
    item = region(MinX0=0, MinY0=0, MaxX1=29, MaxY1=19)
    item.PhysicalDeltaY, item.PhysicalDeltaX = float(down), float(right)
    assert flags(write("a", ramp, SequenceOfUltrasoundRegions=[item])) == expected


def test_16_bit_colour(write, colours):
    path = write("a", colours.astype(np.uint16))
    assert flags(path) == (Flag.HIGH_BYTE,)


def test_overlay(tmp_path, build, ramp):
    dataset = build(ramp)
    dataset.add_new(0x60020010, "US", 20)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    assert flags(tmp_path / "a") == (Flag.OVERLAY,)


def test_lossy_syntax(write, ramp):
    stream = encapsulate([b"12"])
    assert flags(write("a", ramp, syntax=JPEG2000, PixelData=stream)) == (Flag.LOSSY,)
    assert flags(write("b", ramp, syntax=JPEG2000Lossless, PixelData=stream)) == ()


def test_several_flags_at_once(write, ramp):
    items = [region(MinX0=0, MinY0=0, MaxX1=9, MaxY1=19), region(MinX0=2, MinY0=0, MaxX1=40)]
    items[1].RegionLocationMaxY1 = 19
    path = write("a", ramp, SequenceOfUltrasoundRegions=items, BurnedInAnnotation="YES")
    expected = (Flag.SEVERAL_REGIONS, Flag.CLAMPED, Flag.CROPPED, Flag.BURNED_IN)
    assert flags(path) == expected


def test_malformed_elements_give_no_flag(write, ramp):
    path = write("a", ramp, PixelAspectRatio=[4, 3], BurnedInAnnotation="YES")
    content = path.read_bytes().replace(b"4\\3 ", b"x\\x ")
    path.write_bytes(content)
    assert flags(path) == (Flag.BURNED_IN,)
