"""What a sonographer would measure in a mask: area and diameters."""

from typing import NamedTuple

import numpy as np


class Measured(NamedTuple):
    """Of one class in one image."""

    area_cm2: float  # of all its pixels, cm²
    longest_mm: float  # the longest diameter of its largest connected part, mm
    perpendicular_mm: float  # that part's extent across the longest diameter, mm


def measure(mask: np.ndarray, spacing: tuple[float, float]) -> Measured:
    """Measures a class; all is 0 where it has no pixel.

    Diameters go from corner to corner of pixels: a rectangle of 3 × 4 pixels of 1 mm has a longest
    diameter of 5 mm.

    Args:
        mask: Where the class is, bool [H, W].
        spacing: Height and width of a pixel, mm.
    """
    if not mask.any():
        return Measured(0.0, 0.0, 0.0)
    from scipy import ndimage  # SciPy takes its time
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    rows = np.flatnonzero(largest.any(axis=1))
    left = largest[rows].argmax(axis=1)
    right = largest.shape[1] - largest[rows, ::-1].argmax(axis=1)
    corners = np.array(
        [
            (r + i, side)
            for i in (0, 1)
            for c in (left, right)
            for r, side in zip(rows, c, strict=True)
        ]
    )
    hull = corners * spacing
    hull = hull[ConvexHull(hull).vertices]
    distances = cdist(hull, hull)
    a, b = np.unravel_index(distances.argmax(), distances.shape)
    along = (hull[b] - hull[a]) / distances[a, b]
    across = hull @ np.array([-along[1], along[0]])
    area = np.count_nonzero(mask) * spacing[0] * spacing[1] / 100
    return Measured(float(area), float(distances[a, b]), float(np.ptp(across)))
