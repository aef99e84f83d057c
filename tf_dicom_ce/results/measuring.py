"""What a sonographer would measure in a mask: area and diameters; and where its border runs."""

from typing import NamedTuple

import numpy as np

_RUN = 3  # pixels for which both sides of a corner run straight
_NEAR = 2.0  # pixels from the farthest point, to which the border is fitted
_SURE = 0.1  # pixels by which even the best known edges may be off


class Measured(NamedTuple):
    """Of one class in one image."""

    area_cm2: float  # of all its pixels, cm²
    longest_mm: float  # the longest diameter of its largest connected part, mm
    perpendicular_mm: float  # that part's extent across the longest diameter, mm


def measure(mask: np.ndarray, spacing: tuple[float, float]) -> Measured:
    """Measures a class; every number of a class without a pixel is 0.

    The border runs through the middles of the pixels' edges: as far outside of the true shape as
    inside. It also runs through a right angle if both sides are straight for three pixels: a
    rectangle of 3 × 4 pixels of 1 mm has a longest diameter of 5 mm. The outermost row of pixels
    does not tell where a round shape ends. So a parabola is fitted to the border at each end of a
    diameter, and the diameter reaches to it.

    Args:
        mask: Where the class is, bool [H, W].
        spacing: Height and width of a pixel, mm.
    """
    if not mask.any():
        return Measured(0.0, 0.0, 0.0)
    from scipy.spatial import ConvexHull  # SciPy takes its time
    from scipy.spatial.distance import cdist

    edges, normals, corners = (found * spacing for found in _border(largest_part(mask)))
    hull = np.concatenate([edges, corners])
    hull = hull[ConvexHull(hull).vertices]
    distances = cdist(hull, hull)
    a, b = np.unravel_index(distances.argmax(), distances.shape)
    along = (hull[b] - hull[a]) / distances[a, b]
    across = np.array([-along[1], along[0]])
    pixel = float(np.mean(spacing))
    longest, perpendicular = (
        sum(_reach(edges, normals, corners, side * way, pixel) for side in (1, -1))
        for way in (along, across)
    )
    area = np.count_nonzero(mask) * spacing[0] * spacing[1] / 100
    return Measured(float(area), float(longest), float(min(perpendicular, longest)))


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part, bool [H, W], of a mask that is not empty; corners connect."""
    from scipy import ndimage

    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def contour(part: np.ndarray) -> np.ndarray:
    """The outer border of a connected part, along the edges of its pixels.

    Args:
        part: bool [H, W], not empty.

    Returns:
        Corners in pixels, int32 [N, 2]: columns and rows, from the corner of the image, clockwise;
        the last is the first.
    """
    padded = np.pad(part, 1)
    start = at = divmod(int(padded.argmax()), padded.shape[1])  # its first corner
    way, corners = (0, 1), []
    while True:
        corners.append(at)
        # Straight on while the part lies to the right of the way, and none of it to the left.
        while True:
            at = (at[0] + way[0], at[1] + way[1])
            (row, column), (down, across) = at, way
            # The pixels beyond this corner, to the left of the way and to the right of it.
            left, right = (
                padded[row + (down + s * across - 1) // 2, column + (across - s * down - 1) // 2]
                for s in (-1, 1)
            )
            if left or not right:
                break
        way = (-way[1], way[0]) if left else (way[1], -way[0])
        if at == start and way == (0, 1):
            return np.array([*corners, start], np.int32)[:, ::-1] - 1


def _border(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles and normals of the edges around a part, and its right angles: rows and columns."""
    padded = np.pad(part, _RUN)
    below = np.argwhere(padded[1:] != padded[:-1]) + np.array([1, 0.5])
    beside = np.argwhere(padded[:, 1:] != padded[:, :-1]) + np.array([0.5, 1])
    corners = []
    for flip_rows in (1, -1):
        for flip_columns in (1, -1):
            # As if it were the upper left corner: pixels in it, and beyond either side none.
            seen = padded[::flip_rows, ::flip_columns]
            found = np.ones_like(seen)
            for k in range(_RUN):
                for row, column, is_in in ((0, k, 1), (k, 0, 1), (-1, k, 0), (k, -1, 0)):
                    found &= np.roll(seen, (-row, -column), (0, 1)) == is_in
            at = np.argwhere(found)
            size = np.array(seen.shape)
            flips = np.array([flip_rows, flip_columns])
            corners.append(np.where(flips > 0, at, size - at))
    edges, corners = np.concatenate([below, beside]) - _RUN, np.concatenate(corners) - _RUN
    normals = np.repeat(np.eye(2), (len(below), len(beside)), axis=0)
    return edges, normals, corners


def _reach(
    edges: np.ndarray, normals: np.ndarray, corners: np.ndarray, way: np.ndarray, pixel: float
) -> float:
    """How far the border reaches in a direction; all in mm."""
    far, aside = edges @ way, edges @ np.array([-way[1], way[0]])
    reach = far.max()
    near = far > reach - _NEAR * pixel
    if far.min() < reach - 3 * _NEAR * pixel:  # the border of a few pixels has no shape
        # An edge is half a pixel off along its normal, at most; one along the way is not.
        weights = 1 / (abs(normals @ way) + _SURE * pixel)
        middle = aside[near].mean()
        a, b, c = np.polynomial.polynomial.polyfit(
            aside[near] - middle, far[near], 2, w=weights[near]
        )
        if c < 0:
            reach = np.clip(a - b * b / (4 * c), reach - pixel / 2, reach + pixel / 2)
    return float(max([reach, *(corners @ way)]))
