"""What a decoder gives."""

from typing import NamedTuple

import numpy as np

from tf_dicom_ce.dicom.flags import Flag


class Decoded(NamedTuple):
    """One frame out of a decoder.

    Attributes:
        values: (H, W) or (H, W, 3) integers.
        photometric: (0028,0004) Photometric Interpretation that they have.
        flags: Where the codestream contradicts the header.
    """

    values: np.ndarray
    photometric: str
    flags: tuple[Flag, ...] = ()
