"""Outlines of classes on gray images, and the colours that they are drawn in."""

import numpy as np

_COLOURS = ((255, 190, 60), (80, 200, 255), (255, 110, 170), (140, 255, 120), (200, 150, 255))


def colour(label: int) -> tuple[int, int, int]:
    """Red, green, blue (0…255) of a class from 1; they come round again after five."""
    return _COLOURS[(label - 1) % len(_COLOURS)]


def outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws the border of every class of a mask.

    Args:
        image: Gray levels, uint8 [H, W].
        mask: Classes, integer [H, W]; 0 is not drawn.

    Returns:
        uint8 [H, W, 3].
    """
    picture = np.repeat(image[..., np.newaxis], 3, axis=-1)
    padded = np.pad(mask, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([mask != other for other in neighbours], axis=0) & (mask > 0)
    for label in np.unique(mask[border]):
        picture[border & (mask == label)] = colour(int(label))
    return picture
