"""Areas and diameters against shapes worked out by hand."""

import numpy as np
import pytest

from tf_dicom_ce.results.measuring import measure


def test_a_rectangle():
    """3 × 4 pixels of 1 mm: the diagonal is 5 mm, and each other corner is 12/5 mm from it."""
    mask = np.zeros((20, 30), bool)
    mask[5:8, 10:14] = True
    found = measure(mask, (1.0, 1.0))
    assert found.area_cm2 == pytest.approx(0.12)
    assert found.longest_mm == pytest.approx(5)
    assert found.perpendicular_mm == pytest.approx(2 * 12 / 5)


def test_pixels_that_are_not_square():
    """Height before width: 2 × 3 pixels of 0.5 × 2 mm are 1 × 6 mm."""
    mask = np.zeros((9, 9), bool)
    mask[4:6, 1:4] = True
    found = measure(mask, (0.5, 2.0))
    assert found.area_cm2 == pytest.approx(0.06)
    assert found.longest_mm == pytest.approx(np.hypot(1, 6))


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
@pytest.mark.parametrize("spacing", [(0.3, 0.3), (0.25, 0.4)])
def test_an_ellipse(degrees, spacing):
    """Semi-axes 30 and 17 mm, within a pixel or two."""
    a, b, angle = 30.0, 17.0, np.radians(degrees)
    y, x = (np.arange(300)[:, None] + 0.5) * spacing[0], (np.arange(400) + 0.5) * spacing[1]
    y, x = y - 150 * spacing[0], x - 200 * spacing[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    found = measure((u / a) ** 2 + (v / b) ** 2 <= 1, spacing)
    pixel = max(spacing)
    assert found.area_cm2 == pytest.approx(np.pi * a * b / 100, rel=2e-3)
    assert found.longest_mm == pytest.approx(2 * a, abs=1.2 * pixel)  # corners lie outside
    assert found.perpendicular_mm == pytest.approx(2 * b, abs=2 * pixel)


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
    assert measure(mask, (1.0, 1.0)) == pytest.approx((0.01, np.sqrt(2), np.sqrt(2)))
