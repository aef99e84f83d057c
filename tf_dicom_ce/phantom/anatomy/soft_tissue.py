"""Fat, fascia and muscle beneath the skin, with a node, a nodule or a collection."""

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Ellipsoid, Noise
from tf_dicom_ce.phantom.tissues import Tissue


class SoftTissue:
    """A patient's superficial tissue.

    Args:
        rng: Source of the patient's anatomy.
        lesion: Tissue of the lesion (NODE, NODULE or FLUID), or None.
        bone: Whether a bone lies at depth.
    """

    def __init__(self, rng: np.random.Generator, lesion: Tissue | None, bone: bool = False):
        self._warp = Noise(rng, 40), Noise(rng, 12), Noise(rng, 3.5)
        self._fat = rng.uniform(6, 18)
        self._muscle = self._fat + rng.uniform(8, 16)
        self._pitch = rng.normal(0, 0.12)
        self._lesion = lesion
        size = rng.uniform(4, 11)
        self.lesion = Ellipsoid(
            (rng.normal(0, 4), rng.normal(0, 3), rng.uniform(10, 22)),
            (size, size, size * rng.uniform(0.5, 0.8)),
            turn=rng.normal(0, 0.3),
        )
        self._bone = (
            Ellipsoid((rng.normal(0, 6), 0, self._muscle + 16), (14, 80, 7)) if bone else None
        )

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        slow, fine, grain = (noise(points) for noise in self._warp)
        z = points[..., 2] + self._pitch * points[..., 0] + 1.5 * slow + 0.4 * fine
        labels = np.full(z.shape, Tissue.FAT, np.uint8)
        # Lobules of fat: thin septa where a smooth field crosses zero.
        labels[(np.abs(fine + 0.5 * slow) < 0.06) & (z < self._fat)] = Tissue.FASCIA
        for top, bottom in ((self._fat, self._muscle), (self._muscle + 0.8, 90)):
            labels[z > top] = Tissue.MUSCLE
            # Fibres run along the muscle.
            stripes = np.sin(2 * np.pi * (z - top) / 2.2 + 0.5 * grain)
            labels[(z > top) & (stripes > 0.95) & (fine + 0.5 * grain > 0.3)] = Tissue.FASCIA
            labels[(np.abs(z - top) < 0.4) | (np.abs(z - bottom) < 0.4)] = Tissue.FASCIA
        if self._bone:
            labels[self._bone.level(points) < 1] = Tissue.BONE
        if self._lesion is not None:
            level = self.lesion.level(points) + 0.07 * fine + 0.05 * slow
            labels[level < 1] = self._lesion
            if self._lesion == Tissue.NODE:
                labels[level < 0.3] = Tissue.SINUS
            elif self._lesion == Tissue.FLUID:
                labels[(level < 1) & (level > 0.88)] = Tissue.MUSCLE
        return labels
