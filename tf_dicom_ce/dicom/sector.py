"""Where in a picture the ultrasound is, if its header does not say so."""

import numpy as np

from tf_dicom_ce.dicom.regions import Crop

_ABOVE_BACKGROUND = 8
_LINE_WIDTH = 5  # lines, calipers and strokes of letters are thinner
_MIN_TEXTURE = 0.2
_MIN_SIDE = 0.2  # of the picture
_MIN_AREA = 0.05
_MIN_FILL = 0.3  # of the box; a narrow sector fills half of it


def find_sector(levels: np.ndarray) -> Crop | None:
    """Finds the ultrasound among text, ECG traces, gray bars and scales.

    Ultrasound is the largest area that is brighter than the background and rough in both
    directions: text and lines are thin, and gray bars smooth. A sector that is black towards its
    edges gives a box that is too small.

    Args:
        levels: (H, W) uint8.

    Returns:
        The box around it, or None if nothing plausible is found.
    """
    # Not at the top, since most readers never come here, and SciPy takes long to import.
    from scipy import ndimage

    shape = np.array(levels.shape)
    if shape.min() < 4 * _LINE_WIDTH:
        return None
    background = int(np.bincount(levels.ravel(), minlength=256)[:64].argmax())
    bright = levels > background + _ABOVE_BACKGROUND
    # Speckle has holes.
    solid = ndimage.binary_closing(np.pad(bright, 1), np.ones((3, 3)))[1:-1, 1:-1]
    wide = ndimage.binary_opening(solid, np.ones((_LINE_WIDTH, _LINE_WIDTH)))
    letter = max(2 * _LINE_WIDTH, shape.min() // 40)
    core = ndimage.binary_opening(wide, np.ones((letter, letter)))
    core &= _texture(levels, letter) > _MIN_TEXTURE
    # Vessels and chambers are black and may divide the tissue.
    link = max(3, shape.min() // 30)
    linked = ndimage.binary_closing(np.pad(core, link), np.ones((3, 3)), iterations=link)
    labels, count = ndimage.label(linked[link:-link, link:-link])
    if count == 0:
        return None
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    # The opening has cut the corners off; lines that touch them stay away.
    whole = ndimage.binary_propagation(core & (labels == largest), mask=wide)
    box = ndimage.find_objects(whole.astype(np.int8))[0]
    sides = np.array([s.stop - s.start for s in box])
    plausible = (
        np.all(sides >= _MIN_SIDE * shape)
        and sides.prod() >= _MIN_AREA * levels.size
        and whole[box].mean() >= _MIN_FILL
    )
    return box if plausible else None


def _texture(levels: np.ndarray, size: int) -> np.ndarray:
    """The share of pixels around each that differ from their neighbours in both directions."""
    from scipy import ndimage

    signed = levels.astype(np.int16)
    down = np.abs(np.diff(signed, axis=0, append=signed[-1:])) > 1
    right = np.abs(np.diff(signed, axis=1, append=signed[:, -1:])) > 1
    return ndimage.uniform_filter((down & right).astype(np.float32), size)
