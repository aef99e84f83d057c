"""From echoes to gray levels."""

import numpy as np
from scipy import ndimage

from tf_dicom_ce.phantom.vendors import Vendor


def gray(envelope: np.ndarray, vendor: Vendor, gain: float = 0.0) -> np.ndarray:
    """Log compression, edge enhancement, gray map.

    x = 1 + (20 log10(envelope) + gain - white) / dynamic range, then x + edge·(x - blurred x),
    clipped to [0, 1], then (1 - c)·x + c·x²(3 - 2x) with the contrast c.

    Args:
        envelope: Amplitude against liver, float32 [samples, beams].
        vendor: Gives the post-processing.
        gain: Of the operator, dB.

    Returns:
        uint8 [samples, beams].
    """
    level = 20 * np.log10(np.maximum(envelope, np.float32(1e-9)))
    x = 1 + (level + np.float32(gain - vendor.white)) / np.float32(vendor.dynamic_range)
    x = np.clip(x, -0.1, 1.1)  # the logarithm's deep holes must not enhance their surroundings
    x += vendor.edge * (x - ndimage.gaussian_filter(x, 1.5, truncate=2.5))
    x = np.clip(x, 0, 1)
    x = x + vendor.contrast * (x * x * (3 - 2 * x) - x)
    return np.rint(255 * x).astype(np.uint8)
