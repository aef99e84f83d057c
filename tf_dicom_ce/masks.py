"""The mask of an image, at the image's size, from a head's probabilities at the model's."""

import numpy as np
from PIL import Image


def likeliest_classes(probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolates the probabilities of every class and takes the likeliest.

        mask_ij = argmax_c Σ_kl w_ik w_jl p_klc

    w interpolates linearly between the centres of pixels; to shrink, its triangle is widened to the
    distance of the new centres (antialiasing). `tf.image.resize(antialias=True)` does the same in
    float32. Of equally likely classes the first is taken.

    Args:
        probabilities: p, float32 [h, w, C].
        shape: Height and width of the result.

    Returns:
        uint8 [height, width].
    """
    height, width = shape
    mask, highest = np.zeros(shape, np.uint8), np.full(shape, -np.inf, np.float32)
    for label in range(probabilities.shape[-1]):  # one by one, as an image may be large
        plane = Image.fromarray(probabilities[..., label])
        plane = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        mask[plane > highest] = label
        np.maximum(highest, plane, out=highest)
    return mask
