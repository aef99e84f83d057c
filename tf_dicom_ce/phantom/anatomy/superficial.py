"""What lies beneath the skin of the neck, of the limbs, and between the ribs."""

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
