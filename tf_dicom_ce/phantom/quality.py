"""The five classes of a Morrison's pouch view (Appendix A.2.1), by its visible structures.

score = 0.35 kidney + 0.2 liver + 0.3 interface + 0.15 gain − 0.2 shadow, clipped to 0…1, where

- kidney: visible share of a whole kidney's section (40 cm² counts as whole),
- liver: visible share of 60 cm² of liver,
- interface: visible length over which liver and kidney face each other, of 70 mm,
- gain: 1 where the mean gray level of visible liver is right, falling to 0,
- shadow: share of the interface in shadow.

"Visible" means less than `SHADOW_DB` below the level that TGC expects. Class 0 is a view without
either organ.

Calibration: 1,200 views of 400 patients, vendor B, displacements by `sample_displacement`, gain
σ 3 dB, rater σ 0.04. Classes 0 to 4 hold 19.0, 27.2, 21.8, 16.2 and 15.8 %. The accuracy ceiling,
class 0 included, is 0.938, 0.919 and 0.898 at rater σ 0.03, 0.04 and 0.05.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tf_dicom_ce.phantom.tissues import KIDNEY, Tissue

SHADOW_DB = 15.0
ORGAN_CM2 = 2.0  # less than this of an organ does not count as seen
THRESHOLDS = (0.38, 0.74, 0.88)  # between classes 1, 2, 3 and 4
RATER_SIGMA = 0.04
_NEIGHBOURHOOD_MM = 8.0  # perirenal fat and fluid may lie between the organs
_BLUR_MM = 1.5
_GRAY, _GRAY_RANGE = 97.0, 45.0


class Quality(NamedTuple):
    """How good a view is."""

    score: float  # 0…1, without rater noise
    neither: bool  # neither liver nor kidney is seen

    def label(self, rng: np.random.Generator, sigma: float = RATER_SIGMA) -> int:
        """Class 0…4 by a rater, with noise of standard deviation `sigma` on the score."""
        if self.neither:
            return 0
        return 1 + int(np.searchsorted(THRESHOLDS, self.score + rng.normal(0, sigma), "right"))


def assess(labels: np.ndarray, shadow: np.ndarray, image: np.ndarray, spacing: float) -> Quality:
    """Judges a scan-converted view.

    Args:
        labels: Tissue, uint8 [H, W], 0 outside the sector.
        shadow: Level below the one that TGC expects, dB, float [H, W].
        image: Gray levels, uint8 [H, W].
        spacing: Size of a pixel, mm.
    """
    area = spacing**2 / 100  # cm² of a pixel
    clear = shadow < SHADOW_DB
    whole_kidney = np.isin(labels, KIDNEY)
    liver = np.isin(labels, (Tissue.LIVER, Tissue.BLOOD)) & clear
    kidney = whole_kidney & clear
    liver_area, kidney_area = liver.sum() * area, kidney.sum() * area
    neither = liver_area < ORGAN_CM2 and kidney_area < ORGAN_CM2
    reach = round(_NEIGHBOURHOOD_MM / spacing)
    near_liver = ndimage.distance_transform_edt(labels != Tissue.LIVER) <= reach
    # The gradient of a blurred mask sums to the length of its border, at any angle; the number of
    # border pixels does not.
    border = ndimage.gaussian_gradient_magnitude(
        whole_kidney.astype(np.float32), _BLUR_MM / spacing, mode="nearest"
    )
    facing = np.where(near_liver, border, 0)
    everything, length = facing.sum() * spacing, facing[clear].sum() * spacing
    in_shadow = float(1 - length / everything) if everything > 1 else 1.0
    gray = float(image[liver].mean()) if liver.any() else 0.0
    score = (
        0.35 * min(kidney_area / 40, 1)
        + 0.2 * min(liver_area / 60, 1)
        + 0.3 * min(length / 70, 1)
        + 0.15 * max(0.0, 1 - abs(gray - _GRAY) / _GRAY_RANGE)
        - 0.2 * in_shadow
    )
    return Quality(float(np.clip(score, 0, 1)), bool(neither))


def sample_displacement(rng: np.random.Generator) -> float:
    """Draws a sonographer's displacement from the standard view: 0 (there) to 1 (far off)."""
    if rng.uniform() < 0.2:
        return float(rng.uniform(0.55, 1))
    return float(rng.uniform(0, 0.3))


def ceiling(scores: np.ndarray, rng: np.random.Generator, sigma: float = RATER_SIGMA) -> float:
    """Accuracy of a judge who knows every score, against raters with noise `sigma`.

    `scores` are the true scores of views with an organ, float [N].
    """
    truth = np.searchsorted(THRESHOLDS, scores, "right")
    rated = np.searchsorted(THRESHOLDS, scores + rng.normal(0, sigma, len(scores)), "right")
    return float((truth == rated).mean())
