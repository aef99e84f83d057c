"""Known points land on known pixels, and masks on what they outline."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from tf_dicom_ce.phantom.acoustics import simulate
from tf_dicom_ce.phantom.geometry import Pose, Probe, ScanConverter
from tf_dicom_ce.phantom.tissues import Tissue
from tf_dicom_ce.phantom.vendors import VENDOR_A

LINEAR = Probe("SL10-2", frequency=6.5, depth=45, width=40)
CURVED = Probe("SC6-1", frequency=3.3, depth=150, radius=60, field=66)
BOTH = pytest.mark.parametrize("probe", [LINEAR, CURVED], ids=["linear", "curved"])


def middle(picture):
    """Centre of mass, (row, column)."""
    return np.array(ndimage.center_of_mass(picture))


def disc(probe, x, z, radius):
    points = probe.points()
    return np.hypot(points[..., 0] - x, points[..., 1] - z) < radius


def test_linear_points():
    points = LINEAR.points()
    assert points.shape == (320, 192, 2)
    assert points.dtype == np.float32
    assert points[0, 0] == pytest.approx([-20 + 20 / 192, 45 / 640])
    assert points[-1, -1] == pytest.approx([20 - 20 / 192, 45 - 45 / 640])


def test_curved_points():
    points = CURVED.points()
    assert np.hypot(points[..., 0], points[..., 1] + 60) == pytest.approx(
        np.broadcast_to(60 + CURVED.ranges[:, None], (320, 192)), rel=1e-5
    )
    angle = np.rad2deg(np.arctan2(points[0, :, 0], points[0, :, 1] + 60))
    assert angle[0] == pytest.approx(-33 + 33 / 192, abs=1e-3)
    assert np.diff(angle) == pytest.approx(66 / 192, abs=1e-3)


@BOTH
def test_beam_spacing(probe):
    points = probe.points()
    apart = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    assert apart == pytest.approx(np.repeat(probe.beam_spacing()[:, None], 191, 1), rel=1e-3)


def test_pose():
    pose = Pose(np.array([10.0, 20, 30]), np.array([0.0, 1, 0]), np.array([0.0, 0, -1]))
    assert pose.to_body(np.array([[3.0, 4.0]])) == pytest.approx(np.array([[10, 23, 26]]))


def test_linear_pixel():
    # 45 mm in 450 pixels of 0.1 mm: the point (5, 20) mm is 200 rows down, 50 columns right.
    converter = ScanConverter(LINEAR, 450, 500)
    assert converter.spacing == pytest.approx(0.1, rel=1e-6)
    picture = converter.image(disc(LINEAR, 5, 20, 2).astype(np.float32))
    assert middle(picture) == pytest.approx([200 - 0.5, 250 + 50 - 0.5], abs=1)
    sector = converter.sector
    assert sector.any(axis=0).sum() == pytest.approx(400, abs=1)
    assert sector[:, 250].sum() == pytest.approx(450, abs=1)


def test_curved_pixel():
    # The face's ends lie 60 mm (1 - cos 33°) = 9.68 mm above its middle; 210 mm sin 33° = 114.4 mm.
    converter = ScanConverter(CURVED, 600, 800)
    assert converter.spacing == pytest.approx(2 * 114.374 / 800, rel=1e-5)
    spacing = converter.spacing
    for x, z in ((0, 80), (-40, 60), (60, 110)):
        picture = converter.image(disc(CURVED, x, z, 8).astype(np.float32))
        expected = [(z + 9.68) / spacing - 0.5, 400 + x / spacing - 0.5]
        assert middle(picture) == pytest.approx(expected, abs=1)


def test_curved_sector():
    converter = ScanConverter(CURVED, 600, 800)
    row, column = np.indices((600, 800))
    x, z = (column + 0.5 - 400) * converter.spacing, (row + 0.5) * converter.spacing - 9.68 + 60
    distance, angle = np.hypot(x, z), np.rad2deg(np.arctan2(x, z))
    expected = (np.abs(angle) <= 33) & (distance >= 60) & (distance <= 210)
    wrong = converter.sector != expected
    edge = ndimage.binary_dilation(expected) & ~ndimage.binary_erosion(expected)
    assert not (wrong & ~edge).any()
    assert not converter.image(np.ones((320, 192), np.float32))[~converter.sector].any()


@BOTH
def test_mask_and_image_of_one_shape_agree_within_a_pixel(probe):
    polar = disc(probe, 0.1 * probe.depth, 0.5 * probe.depth, 0.18 * probe.depth)
    converter = ScanConverter(probe, 512, 640)
    mask = converter.labels(polar.astype(np.uint8)) > 0
    image = converter.image(polar.astype(np.float32)) > 0.5
    within = ndimage.generate_binary_structure(2, 2)
    assert not (image & ~ndimage.binary_dilation(mask, within)).any()
    assert not (ndimage.binary_erosion(mask, within) & ~image).any()


@BOTH
def test_mask_lies_on_the_simulated_cyst(probe):
    labels = np.full((320, 192), Tissue.LIVER, np.uint8)
    labels[disc(probe, 0.05 * probe.depth, 0.5 * probe.depth, 0.15 * probe.depth)] = Tissue.FLUID
    vendor = dataclasses.replace(VENDOR_A, multipath=-200)  # which fills the front of the cyst
    image = simulate(labels, probe, vendor, np.random.default_rng(2)).image
    converter = ScanConverter(probe, 512, 640)
    mask = converter.labels(labels) == Tissue.FLUID
    dark = converter.image(image.astype(np.float32)) < 45
    near = ndimage.binary_dilation(mask, iterations=12)
    assert middle(dark & near) == pytest.approx(middle(mask), abs=1)
    assert 0.8 < (dark & near).sum() / mask.sum() < 1  # blur of the bright side makes it smaller
