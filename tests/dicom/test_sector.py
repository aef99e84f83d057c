"""Screens that were drawn, with a known box around the ultrasound."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom import Dataset
from scipy import ndimage

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.pictures import read_picture
from tf_dicom_ce.dicom.reader import Code, Refusal, read_frame
from tf_dicom_ce.dicom.regions import find_sector

HEIGHT, WIDTH = 480, 640


def speckle(rng):
    """Fully developed speckle, compressed to levels as devices do."""
    noise = ndimage.gaussian_filter(rng.normal(size=(2, HEIGHT, WIDTH)), (0, 1, 1.5))
    decibel = 20 * np.log10(np.hypot(*noise) / np.hypot(*noise).max())
    return np.clip(255 * (1 + decibel / 50), 0, 255)


def fan():
    """A convex sector: mask and box."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius, angle = np.hypot(y + 40, x - 300), np.arctan2(x - 300, y + 40)
    return (radius > 90) & (radius < 400) & (abs(angle) < 0.6)


def rectangle():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[60:400, 140:520] = True
    return mask


def screen(mask, rng, background=0, cyst=False):
    """Ultrasound with text, an ECG trace, a gray bar and a scale around it."""
    levels = np.where(mask, speckle(rng), background)
    if cyst:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        levels[(np.hypot((y - 230) / 0.5, x - 310) < 90) & mask] = background + 2
    image = Image.fromarray(levels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for line in range(6):
        draw.text((5, 10 + 14 * line), "GAIN 62 MI 1.1\nABDOMEN", fill=255)
    draw.text((560, 450), "5 cm", fill=220)
    draw.line([(x, 450 + int(12 * np.sin(x / 7) ** 9)) for x in range(640)], fill=200, width=2)
    for i in range(200):
        draw.line([(600, 60 + i), (618, 60 + i)], fill=255 - i)
    for tick in range(60, 440, 30):
        draw.line([(580, tick), (590, tick)], fill=255)
    return np.asarray(image)


def region(x0, y0, x1, y1):
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item


def box_of(mask):
    return ndimage.find_objects(mask.astype(int))[0]


def distance(found, expected):
    return max(
        abs(a - b)
        for f, e in zip(found.slices, expected, strict=True)
        for a, b in ((f.start, e.start), (f.stop, e.stop))
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [fan, rectangle])
@pytest.mark.parametrize("more", [{}, {"background": 20}, {"cyst": True}])
def test_box_is_found_within_three_pixels(shape, seed, more):
    mask = shape()
    levels = screen(mask, np.random.default_rng(seed), **more)
    found = find_sector(levels)
    assert found is not None
    assert distance(found, box_of(mask)) <= 3


def test_line_that_touches_the_sector_is_left_out():
    mask = rectangle()
    levels = screen(mask, np.random.default_rng(0)).copy()
    levels[200:203, 300:] = 255
    assert distance(find_sector(levels), box_of(mask)) <= 3


@pytest.mark.parametrize("levels", [0, 90])
def test_nothing_is_found_where_nothing_is(levels):
    assert find_sector(np.full((HEIGHT, WIDTH), levels, np.uint8)) is None
    no_ultrasound = np.zeros((HEIGHT, WIDTH), bool)
    assert find_sector(screen(no_ultrasound, np.random.default_rng(0))) is None
    assert find_sector(np.full((3, 3), levels, np.uint8)) is None


def test_picture_without_a_screen_is_kept_whole():
    whole = np.ones((HEIGHT, WIDTH), bool)
    levels = np.maximum(speckle(np.random.default_rng(0)), 20).astype(np.uint8)
    assert distance(find_sector(levels), box_of(whole)) <= 3


def test_reader_looks_only_if_asked_and_needed(write):
    mask = fan()
    path = write("a", screen(mask, np.random.default_rng(0)))
    assert read_frame(path).pixels.shape == (HEIGHT, WIDTH)
    frame = read_frame(path, find_sector=True)
    assert frame.flags == (Flag.SECTOR_FOUND,)
    assert distance(frame.region, box_of(mask)) <= 3
    assert frame.pixels.shape == tuple(s.stop - s.start for s in frame.region.slices)
    black = read_frame(write("b", np.zeros((100, 100), np.uint8)), find_sector=True)
    assert black.flags == (Flag.NO_SECTOR,)
    assert black.pixels.shape == (100, 100)


def dark_outside(pixels, levels, mask):
    """The box keeps its pixels, and all beyond the tolerance is black."""
    box = box_of(mask)
    np.testing.assert_array_equal(pixels[box][3:-3, 3:-3], levels[box][3:-3, 3:-3])
    far = np.ones_like(mask)
    far[tuple(slice(s.start - 3, s.stop + 3) for s in box)] = False
    assert not pixels[far].any()
    assert levels[far].any()


@pytest.mark.parametrize("kind", ["DICOM", "PNG"])
def test_blackened_outside_of_what_is_found(write, tmp_path, kind):
    mask = rectangle()
    levels = screen(mask, np.random.default_rng(0))
    if kind == "DICOM":
        frame = read_frame(write("a", levels), blank_outside=True)
    else:
        Image.fromarray(levels).save(tmp_path / "a.png")
        frame = read_picture(tmp_path / "a.png", blank_outside=True)
    assert frame.flags == (Flag.BLACKENED,)
    assert frame.region.slices == (slice(0, HEIGHT), slice(0, WIDTH))
    dark_outside(frame.pixels, levels, mask)


@pytest.mark.parametrize("size", [(0, 0, WIDTH - 1, HEIGHT - 1), (0, 0, 3 * WIDTH, 3 * HEIGHT)])
def test_region_of_the_whole_screen_tells_nothing(write, size):
    """Neither does an implausible region."""
    mask = rectangle()
    levels = screen(mask, np.random.default_rng(0))
    frame = read_frame(
        write("a", levels, SequenceOfUltrasoundRegions=[region(*size)]), blank_outside=True
    )
    assert frame.flags[-1] == Flag.BLACKENED
    dark_outside(frame.pixels, levels, mask)


def test_region_cuts_off_what_lies_outside(write):
    levels = screen(rectangle(), np.random.default_rng(0))
    more = {"SequenceOfUltrasoundRegions": [region(140, 60, 519, 399)]}
    frame = read_frame(write("a", levels, **more), blank_outside=True)
    np.testing.assert_array_equal(frame.pixels, levels[box_of(rectangle())])
    assert frame.flags == (Flag.CROPPED,)


def test_cropped_to_what_is_found_is_not_blackened_as_well(write):
    levels = screen(rectangle(), np.random.default_rng(0))
    path = write("a", levels)
    frame = read_frame(path, find_sector=True, blank_outside=True)
    assert frame.flags == (Flag.SECTOR_FOUND,)
    np.testing.assert_array_equal(frame.pixels, read_frame(path, find_sector=True).pixels)


@pytest.mark.parametrize("find_sector", [False, True])
def test_where_nothing_tells_what_is_outside_the_image_is_left_out(write, tmp_path, find_sector):
    text = screen(np.zeros((HEIGHT, WIDTH), bool), np.random.default_rng(0))
    options = {"find_sector": find_sector, "blank_outside": True}
    assert read_frame(write("a", text), **options) == Refusal(Code.NO_SECTOR)
    assert Code.NO_SECTOR.is_skip
    Image.fromarray(text).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", blank_outside=True) == Refusal(Code.NO_SECTOR)
    assert read_picture(tmp_path / "a.png").pixels.shape == (HEIGHT, WIDTH)
