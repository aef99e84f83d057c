"""Areas and diameters against shapes worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from tf_dicom_ce.phantom.anatomy import RightUpperQuadrant
from tf_dicom_ce.results.measuring import contour, largest_part, measure


def test_a_rectangle():
    """3 × 4 pixels of 1 mm: the diagonal is 5 mm, and each other corner is 12/5 mm from it."""
    mask = np.zeros((20, 30), bool)
    mask[5:8, 10:14] = True
    found = measure(mask, (1.0, 1.0))
    assert found.area_cm2 == pytest.approx(0.12)
    assert found.longest_mm == pytest.approx(5)
    assert found.perpendicular_mm == pytest.approx(2 * 12 / 5)


def test_pixels_that_are_not_square():
    """Height before width: 6 × 4 pixels of 0.5 × 1 mm are 3 × 4 mm."""
    mask = np.zeros((9, 9), bool)
    mask[2:8, 1:5] = True
    found = measure(mask, (0.5, 1.0))
    assert found.area_cm2 == pytest.approx(0.12)
    assert found.longest_mm == pytest.approx(5)
    assert found.perpendicular_mm == pytest.approx(2 * 12 / 5)


def ellipse(a, b, degrees, spacing, centre=(0.0, 0.0)):
    """Of semi-axes in mm; the centre is in pixels, from the corner of a pixel in the middle."""
    y = (np.arange(300)[:, None] + 0.5 - 150 - centre[0]) * spacing[0]
    x = (np.arange(400) + 0.5 - 200 - centre[1]) * spacing[1]
    angle = np.radians(degrees)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
@pytest.mark.parametrize("spacing", [(0.3, 0.3), (0.25, 0.4)])
def test_an_ellipse(degrees, spacing):
    """Semi-axes 30 and 17 mm, within half a pixel."""
    a, b = 30.0, 17.0
    found = measure(ellipse(a, b, degrees, spacing), spacing)
    assert found.area_cm2 == pytest.approx(np.pi * a * b / 100, rel=2e-3)
    assert found.longest_mm == pytest.approx(2 * a, abs=max(spacing) / 2)
    assert found.perpendicular_mm == pytest.approx(2 * b, abs=max(spacing) / 2)


def test_ellipses_anywhere():
    """Of any size, turn and place: 9 of 10 within half a pixel, all about right on the whole."""
    rng, errors = np.random.default_rng(0), []
    for _ in range(100):
        a = rng.uniform(20, 100)
        b, degrees = a * rng.uniform(0.4, 0.95), rng.uniform(0, 180)
        mask = ellipse(a, b, degrees, (1.0, 1.0), rng.uniform(0, 1, 2))
        _, *diameters = measure(mask, (1.0, 1.0))
        errors.append(np.subtract(diameters, (2 * a, 2 * b)))
    errors = np.array(errors)
    assert (abs(errors) < 0.5).mean() > 0.9
    assert abs(errors).max() < 1
    assert abs(errors.mean(axis=0)).max() < 0.2


@pytest.mark.parametrize("offset", [0.0, 9.0, -14.0])
def test_a_kidney_of_the_phantom(offset):
    """A plane beside its centre cuts an ellipse: half axes shrink by √(1 - (offset / width)²)."""
    kidney = RightUpperQuadrant(np.random.default_rng(5)).kidney
    spacing = (0.35, 0.3)
    z, x = np.mgrid[:600, :700]
    x, z = kidney.centre[0] + (x - 350.3) * spacing[1], kidney.centre[2] + (z - 299.6) * spacing[0]
    points = np.stack([x, np.full_like(x, kidney.centre[1] + offset), z], axis=-1)
    found = measure(kidney.level(points) < 1, spacing)
    half_length, half_width, half_depth = kidney.radii
    shrunk = np.sqrt(1 - (offset / half_width) ** 2)
    a, b = half_length * shrunk, half_depth * shrunk
    assert found.area_cm2 == pytest.approx(np.pi * a * b / 100, rel=2e-3)
    assert found.longest_mm == pytest.approx(2 * a, abs=max(spacing) / 2)
    assert found.perpendicular_mm == pytest.approx(2 * b, abs=max(spacing) / 2)


def test_a_contour_runs_around_the_pixels():
    """Columns and rows, clockwise; pixels that touch at a corner are one part, a hole is none."""
    part = np.zeros((4, 5), bool)
    part[0, 1] = part[1, 2] = True
    corners = [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 1), (1, 1), (1, 0)]
    np.testing.assert_array_equal(contour(part), corners)
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    np.testing.assert_array_equal(contour(ring), [(0, 0), (3, 0), (3, 3), (0, 3), (0, 0)])


def test_a_contour_encloses_the_part():
    """Its area, by the shoelace formula, is that of the pixels with the holes filled."""
    part = largest_part(np.random.default_rng(0).random((60, 60)) < 0.7)
    x, y = contour(part).T
    area = 0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])
    assert area == ndimage.binary_fill_holes(part).sum() != part.sum()


def test_diameters_are_of_the_largest_part_and_the_area_of_all():
    mask = np.zeros((50, 50), bool)
    mask[5:15, 5:15] = mask[40:42, 45:47] = True
    found = measure(mask, (1.0, 1.0))
    assert found.area_cm2 == pytest.approx(1.04)
    assert found.longest_mm == pytest.approx(10 * np.sqrt(2))


def test_one_pixel_and_none():
    mask = np.zeros((5, 5), bool)
    assert measure(mask, (1.0, 1.0)) == (0, 0, 0)
    mask[2, 2] = True
    assert measure(mask, (1.0, 1.0)) == pytest.approx((0.01, 1, 1))
