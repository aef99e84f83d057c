"""What stands on the screen around the sector, and what it must not depend on."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tf_dicom_ce.phantom import vendors as screen
from tf_dicom_ce.phantom.geometry import ScanConverter
from tf_dicom_ce.phantom.vendors import VENDOR_A, VENDOR_B

VENDORS = {vendor.name: vendor for vendor in (VENDOR_A, VENDOR_B)}
vendors = pytest.mark.parametrize("vendor", VENDORS)


def compose(vendor, sector=0, seed=0):
    picture = np.full(VENDORS[vendor].size, sector, np.uint8)
    return screen.compose(VENDORS[vendor], picture, np.random.default_rng(seed))


def inside(vendor):
    left, top, right, bottom = VENDORS[vendor].region
    return slice(top, bottom), slice(left, right)


@vendors
def test_the_sector_lies_in_the_region_untouched(vendor):
    sector = np.random.default_rng(1).integers(0, 256, VENDORS[vendor].size, np.uint8)
    picture = screen.compose(VENDORS[vendor], sector, np.random.default_rng(0))
    assert picture.shape == (screen.HEIGHT, screen.WIDTH)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[inside(vendor)], sector)


@vendors
def test_the_furniture_does_not_depend_on_the_sector(vendor):
    """Neither probe nor study reach the furniture: all that it is given is chance."""
    dark, bright = compose(vendor, 0).copy(), compose(vendor, 255).copy()
    dark[inside(vendor)] = bright[inside(vendor)] = 0
    np.testing.assert_array_equal(dark, bright)
    assert (dark > 0).sum() > 1000


@vendors
def test_only_the_numbers_change_from_image_to_image(vendor):
    pictures = np.stack([compose(vendor, seed=seed) for seed in range(20)])
    changed = np.argwhere(pictures.std(axis=0) > 0)
    x, y = VENDORS[vendor].text
    assert len(changed)
    assert ((changed >= (y, x)) & (changed < (y + 16, x + 420))).all()


@vendors
def test_synthetic_is_written_on_the_screen(vendor):
    stamp = Image.new("L", (screen.WIDTH, screen.HEIGHT))
    ImageDraw.Draw(stamp).text(VENDORS[vendor].text, "SYNTHETIC PHANTOM", fill=190)
    letters = np.asarray(stamp) > 0
    np.testing.assert_array_equal(compose(vendor)[letters], np.asarray(stamp)[letters])


def test_two_layouts():
    first, second = (compose(vendor) for vendor in VENDORS)
    assert (first != second).mean() > 0.01


@vendors
def test_every_probe_fills_the_region(vendor):
    """All probes share one region, so that its bounds do not tell the probe."""
    for probe in VENDORS[vendor].probes.values():
        sector = ScanConverter(probe, *VENDORS[vendor].size).sector
        assert sector.shape == VENDORS[vendor].size
        spans = np.ptp(np.argwhere(sector), axis=0) + 1
        assert (spans >= np.array(sector.shape) - 3).any()  # as high or as wide as it can be
