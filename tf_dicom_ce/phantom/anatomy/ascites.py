"""Free fluid in the abdomen with loops of bowel, and with or without the liver's edge."""

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Ellipsoid, Noise
from tf_dicom_ce.phantom.tissues import Tissue


class Ascites:
    """A patient's lower abdomen.

    Args:
        rng: Source of the patient's anatomy.
        depth: Of the peritoneum beneath the skin, mm.
        fluid: Depth of the fluid, mm; 0 gives bowel against the wall.
    """

    def __init__(self, rng: np.random.Generator, depth: float, fluid: float):
        self._warp = Noise(rng, 70), Noise(rng, 22)
        self._depth = depth
        self._fluid = fluid
        self._loops = [
            Ellipsoid(
                (
                    rng.uniform(-95, 95),
                    rng.uniform(-50, 50),
                    depth + fluid + 10 + rng.uniform(-14, 60),
                ),
                (rng.uniform(12, 24), rng.uniform(20, 60), rng.uniform(9, 17)),
                turn=rng.normal(0, 0.5),
            )
            for _ in range(16)
        ]
        self._content = rng.choice(
            [Tissue.GAS, Tissue.FLUID, Tissue.BOWEL_WALL], 16, p=[0.4, 0.3, 0.3]
        )
        self._liver = (
            Ellipsoid((-85, 0, depth + 40), (60, 60, 50), turn=0.4) if rng.uniform() < 0.3 else None
        )

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        slow, fine = self._warp[0](points), self._warp[1](points)
        z = points[..., 2] - self._depth - 1.5 * slow
        labels = np.full(z.shape, Tissue.MUSCLE, np.uint8)
        labels[z > -0.8] = Tissue.FASCIA
        labels[z > 0] = Tissue.FAT
        if self._fluid:
            bottom = self._fluid + 12 + 10 * slow + 4 * fine
            labels[(z > 0) & (z <= bottom)] = Tissue.FLUID
        labels[z > self._fluid + 75 + 6 * slow] = Tissue.MUSCLE
        if self._liver:
            labels[(self._liver.level(points) + 0.03 * fine < 1) & (z > 0)] = Tissue.LIVER
        for loop, content in zip(self._loops, self._content, strict=True):
            level = loop.level(points) + 0.08 * fine
            labels[(level < 1) & (z > 0)] = Tissue.BOWEL_WALL
            labels[(level < 0.8) & (z > 0)] = content
        return labels
