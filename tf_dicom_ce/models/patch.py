"""The patch at the centre: cut out, masked, pasted in (section 3.1)."""

import tensorflow as tf


def centre_patch(image: tf.Tensor) -> tf.Tensor:
    """The patch x that F predicts: half of height and width, at the centre (section 3.1).

    Args:
        image: [N, H, W, C], H and W multiples of 4.

    Returns:
        [N, H/2, W/2, C].
    """
    height, width = image.shape[1:3]
    return image[:, height // 4 : height * 3 // 4, width // 4 : width * 3 // 4, :]


def paste_patch(image: tf.Tensor, patch: tf.Tensor) -> tf.Tensor:
    """The image with `patch` ([N, H/2, W/2, C]) in place of its centre, differentiable in both."""
    height, width = image.shape[1:3]
    margins = [[0, 0], [height // 4] * 2, [width // 4] * 2, [0, 0]]
    hole = tf.pad(tf.ones_like(patch), margins)
    return image * (1.0 - hole) + tf.pad(patch, margins)


def mask_centre(image: tf.Tensor) -> tf.Tensor:
    """The input x̂ of F: the centre set to 0, the mean of a z-scored image (section 3.1)."""
    return paste_patch(image, tf.zeros_like(centre_patch(image)))
