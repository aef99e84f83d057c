"""The neck across: a thyroid lobe between trachea and vessels, perhaps nodules or nodes."""

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Ellipsoid, Noise
from tf_dicom_ce.phantom.tissues import Tissue


class Neck:
    """A patient's neck; the ideal plane lies across the middle of a lobe, y along the neck.

    Args:
        rng: Source of the patient's anatomy.
        nodules: Number of nodules in the lobe.
        nodes: Number of lymph nodes beside the vessels.
    """

    def __init__(self, rng: np.random.Generator, nodules: int = 0, nodes: int = 0):
        self._warp = Noise(rng, 25), Noise(rng, 8)
        self._side = rng.choice([-1.0, 1.0])
        size = rng.normal(1, 0.12)
        self.lobe = Ellipsoid((0, 0, 15 + rng.normal(0, 1)), (9 * size, 24, 7.5 * size))
        self._isthmus = Ellipsoid((-12, -2, 11), (11, 9, 2.2))
        self._trachea = (-21 + rng.normal(0, 1.5), 19 + rng.normal(0, 1), 8.5)
        self._carotid = (13 + rng.normal(0, 1.2), 18 + rng.normal(0, 1.5), rng.uniform(2.8, 3.8))
        self._jugular = (18 + rng.normal(0, 1.5), 12.5, rng.uniform(3.5, 7), rng.uniform(1.6, 4))
        self._muscle = 4 + rng.uniform(0, 2)
        self._nodules = [
            Ellipsoid(
                (rng.uniform(-4, 4), rng.uniform(-8, 8), self.lobe.centre[2] + rng.uniform(-2, 2)),
                tuple(rng.uniform(2, 6.5) * rng.uniform(0.75, 1.2, 3)),
            )
            for _ in range(nodules)
        ]
        self._cystic = rng.uniform(size=nodules) < 0.3
        self._nodes = [
            Ellipsoid(
                (
                    rng.uniform(8, 18),
                    rng.normal(0, 5),
                    self._carotid[1] + rng.choice([-1, 1]) * rng.uniform(6, 10),
                ),
                (rng.uniform(3.5, 9), rng.uniform(4, 9), rng.uniform(2, 5)),
                turn=rng.normal(0, 0.4),
            )
            for _ in range(nodes)
        ]

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        points = points * np.array([self._side, 1, 1], np.float32)
        slow, fine = self._warp[0](points), self._warp[1](points)
        x, z = points[..., 0] + 0.6 * slow, points[..., 2] + 0.6 * slow
        labels = np.full(x.shape, Tissue.MUSCLE, np.uint8)
        labels[np.abs(z - 8 - 0.03 * np.square(x - 4)) < 0.35] = Tissue.FASCIA
        labels[z > 26 - 6 * np.clip((x + 3 * fine + 2) / 8, 0, 1)] = Tissue.FAT
        labels[z > 26 + slow] = Tissue.MUSCLE
        labels[(np.abs(z - 26 - slow) < 0.35) & (fine > -0.5)] = Tissue.FASCIA
        wobble = 0.05 * slow + 0.03 * fine
        gland = np.minimum(self.lobe.level(points), self._isthmus.level(points)) + wobble
        labels[gland < 1.06] = Tissue.FASCIA
        labels[gland < 1] = Tissue.THYROID
        for nodule, cystic in zip(self._nodules, self._cystic, strict=True):
            level = nodule.level(points) + 2 * wobble
            labels[(level < 1) & (gland < 1)] = Tissue.NODULE
            labels[(level < 0.7) & (gland < 1)] = Tissue.FLUID if cystic else Tissue.NODULE
        for node in self._nodes:
            level = node.level(points) + wobble
            labels[(level < 1.0) & (gland > 1.06)] = Tissue.NODE
            labels[(level < 0.25) & (gland > 1.06)] = Tissue.SINUS
        x0, z0, rx, rz = self._jugular
        labels[np.hypot((points[..., 0] - x0) / rx, (points[..., 2] - z0) / rz) < 1] = Tissue.BLOOD
        middle_x, middle_z, radius = self._trachea
        trachea = np.hypot(points[..., 0] - middle_x, points[..., 2] - middle_z)
        labels[trachea < radius] = Tissue.MUSCLE
        labels[trachea < radius - 1.5] = Tissue.GAS
        # Last: nodes and the vein give way to the artery.
        x0, z0, r = self._carotid
        carotid = np.hypot(points[..., 0] - x0, points[..., 2] - z0)
        labels[carotid < r + 0.7] = Tissue.VESSEL_WALL
        labels[carotid < r] = Tissue.BLOOD
        return labels
