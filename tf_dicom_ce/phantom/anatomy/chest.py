"""The chest between ribs: pleura over lung, or an effusion above the diaphragm."""

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Ellipsoid, Noise
from tf_dicom_ce.phantom.tissues import Tissue


class Chest:
    """A patient's chest wall and what lies behind it.

    Args:
        rng: Source of the patient's anatomy.
        depth: Of the pleura beneath the skin, mm.
        effusion: Depth of the pleural fluid, mm; 0 for none.
    """

    def __init__(self, rng: np.random.Generator, depth: float, effusion: float = 0.0):
        self._warp = Noise(rng, 60), Noise(rng, 18)
        self._depth = depth
        self._effusion = effusion
        self._side = rng.choice([-1.0, 1.0])
        self._dome = Ellipsoid(
            (75 + rng.normal(0, 10), rng.normal(0, 10), depth + 70), (80, 90, 62), turn=0.3
        )
        # Lung that the fluid has collapsed floats in it as a wedge.
        self._wedge = Ellipsoid(
            (-35 + rng.normal(0, 8), 0, depth + effusion + 20), (48, 60, 26), turn=0.25
        )

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        points = points * np.array([self._side, 1, 1], np.float32)
        slow, fine = self._warp[0](points), self._warp[1](points)
        z = points[..., 2] - self._depth - 0.8 * slow
        labels = np.full(z.shape, Tissue.MUSCLE, np.uint8)
        if not self._effusion:
            labels[z > 0] = Tissue.PLEURA
            labels[z > 0.9] = Tissue.LUNG
            return labels
        labels[z > 0] = Tissue.FASCIA
        labels[z > 0.7] = Tissue.FLUID
        lung = np.minimum(
            self._wedge.level(points), 1 + (self._effusion + 60 - z) / 40
        ) + 0.08 * slow + 0.04 * fine  # fmt: skip
        labels[(lung < 1.05) & (z > 2)] = Tissue.PLEURA
        labels[(lung < 1.0) & (z > 2)] = Tissue.LUNG
        dome = self._dome.level(points) + 0.04 * slow
        inside = (dome < 1.03) & (z > 0.7)
        labels[inside] = Tissue.DIAPHRAGM
        labels[inside & (dome < 1)] = Tissue.LIVER
        return labels
