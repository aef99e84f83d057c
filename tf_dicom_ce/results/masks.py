"""A mask at the model's size, back on the image that it was made from."""

import numpy as np

from tf_dicom_ce.results.source import Source


def resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Takes the nearest class for every pixel, without TensorFlow.

    `data.preprocessing.resize_mask` does the same in float32, and where a centre lies near an edge
    it may take the neighbour's row or column.

    Args:
        mask: Classes, uint8 [H, W].
        shape: Height and width of the result.

    Returns:
        uint8 [height, width].
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)  # the centres of the new pixels
        for old, new in zip(mask.shape, shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def on_source(mask: np.ndarray, source: Source) -> np.ndarray:
    """Resizes a mask to the source's region and puts it there, with zeros around.

    Args:
        mask: Classes, uint8 [H, W].
        source: The image.

    Returns:
        uint8 [Rows, Columns] of the file.
    """
    top, left, height, width = source.region
    whole = np.zeros((int(source.header.Rows), int(source.header.Columns)), np.uint8)
    whole[top : top + height, left : left + width] = resized(mask, (height, width))
    return whole
