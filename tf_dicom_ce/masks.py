"""Masks at the size of their images: from a head's probabilities, and drawn as outlines."""

import numpy as np
from PIL import Image

_COLOURS = ((255, 190, 60), (80, 200, 255), (255, 110, 170), (140, 255, 120), (200, 150, 255))


def likeliest_classes(probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolates the probabilities of every class and takes the likeliest.

        mask_ij = argmax_c Σ_kl w_ik w_jl p_klc

    w interpolates linearly between the centres of pixels. To shrink, its triangle is widened to the
    distance of the new centres (antialiasing). `tf.image.resize(antialias=True)` does the same in
    float32. Among equally likely classes the first one wins.

    p is float32 [h, w, C], the result uint8 of `shape`, height and width.
    """
    height, width = shape
    mask, highest = np.zeros(shape, np.uint8), np.full(shape, -np.inf, np.float32)
    for label in range(probabilities.shape[-1]):  # one by one, as an image may be large
        plane = Image.fromarray(probabilities[..., label])
        plane = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        mask[plane > highest] = label
        np.maximum(highest, plane, out=highest)
    return mask


def colour(label: int) -> tuple[int, int, int]:
    """Red, green, blue (0…255) of a class from 1; the colours repeat after five."""
    return _COLOURS[(label - 1) % len(_COLOURS)]


def outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws the borders of a mask's classes from 1, integer [H, W], on gray levels, uint8 [H, W].

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
