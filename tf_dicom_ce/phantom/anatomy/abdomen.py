"""The abdomen: its right upper quadrant, and bowel with or without free fluid."""

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Ellipsoid, Noise, vessel_tree
from tf_dicom_ce.phantom.tissues import Tissue


class RightUpperQuadrant:
    """A patient's right upper quadrant; the ideal plane (y = 0) is Morrison's pouch.

    x runs from cranial (negative) to caudal, so the liver lies left and near, the kidney right
    and deep, the diaphragm at the left and deep border.

    Args:
        rng: Source of the patient's anatomy.
        fluid: Whether free fluid fills Morrison's pouch.
    """

    def __init__(self, rng: np.random.Generator, fluid: bool = False):
        size = rng.normal(1, 0.07)
        self._warp = Noise(rng, 90), Noise(rng, 35), Noise(rng, 14)
        self.liver = Ellipsoid(
            (-28 + rng.normal(0, 5), rng.normal(0, 6), 62 + rng.normal(0, 4)),
            (78 * size, 72 * size, (52 + rng.normal(0, 4)) * size),
            turn=rng.normal(0.15, 0.06),
        )
        length = rng.normal(54, 4)  # half of 108 mm
        self.kidney = Ellipsoid(
            (34 + rng.normal(0, 6), 6 + rng.normal(0, 4), 92 + rng.normal(0, 5)),
            (length, length * rng.uniform(0.47, 0.55), length * rng.uniform(0.42, 0.5)),
            turn=rng.normal(-0.28, 0.12),
        )
        self._fat_shell = 1 + rng.uniform(0.05, 0.16)
        self._fluid = rng.uniform(0.12, 0.35) if fluid else 0.0
        self._pyramids = _pyramids(rng)
        self._dome = Ellipsoid(
            (2 + rng.normal(0, 4), 0, 62), (112 * size, 105, 82 * size), self.liver.turn
        )
        self._vessels = [
            (capsule, wall)
            for wall, root, direction, radius in (
                (0.0, (-62, rng.normal(0, 8), 92), (0.9, 0.2, -0.5), 4.0),
                (1.0, (8, rng.normal(-12, 8), 72), (-0.9, 0.4, -0.15), 4.6),
            )
            for capsule in vessel_tree(rng, root, direction, radius, 30)
        ]
        self._gallbladder = Ellipsoid(
            (18 + rng.normal(0, 8), -32 + rng.normal(0, 8), 52 + rng.normal(0, 6)),
            (rng.uniform(18, 32), rng.uniform(10, 16), rng.uniform(9, 14)),
            turn=rng.normal(0.3, 0.2),
        )
        self._loops = [
            Ellipsoid(
                (rng.uniform(70, 130), rng.uniform(-90, 90), rng.uniform(38, 80)),
                (rng.uniform(14, 26), rng.uniform(25, 60), rng.uniform(11, 18)),
            )
            for _ in range(9)
        ]
        self._gassy = rng.uniform(size=len(self._loops)) < 0.6

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        slow, fine = (noise(points) for noise in self._warp[:2])
        wobble = 0.05 * slow + 0.02 * fine
        kidney = self.kidney.level(points) * (1 + 0.4 * wobble)
        labels = np.where(fine + slow > 0.8, Tissue.MUSCLE, Tissue.FAT).astype(np.uint8)
        deep = points[..., 2] > self.kidney.centre[2] + 22 + 4 * slow
        labels[deep] = Tissue.MUSCLE
        for loop, gassy in zip(self._loops, self._gassy, strict=True):
            level = loop.level(points)
            labels[level < 1] = Tissue.BOWEL_WALL
            labels[level < 0.82] = Tissue.GAS if gassy else Tissue.FLUID
        liver = self.liver.level(points) + wobble < 1
        labels[liver] = Tissue.LIVER
        self._paint_vessels(labels, points, liver)
        gallbladder = self._gallbladder.level(points)
        labels[gallbladder < 1.0] = Tissue.GALLBLADDER_WALL
        labels[gallbladder < 0.86] = Tissue.FLUID
        shell = self._fat_shell + 0.03 * fine
        if self._fluid:
            near = points[..., 2] < self.kidney.centre[2] + 6
            labels[near & (kidney < shell + self._fluid * (1 + 0.4 * slow))] = Tissue.FLUID
        labels[kidney < shell] = Tissue.PERIRENAL_FAT
        self._paint_kidney(labels, points, kidney)
        dome = self._dome.level(points) + 0.4 * wobble
        cranial = points[..., 0] + 0.9 * (points[..., 2] - 100) < 40 + 6 * slow
        labels[cranial & (dome > 1)] = Tissue.DIAPHRAGM
        labels[cranial & (dome > 1.028)] = Tissue.LUNG
        return labels

    def _paint_vessels(self, labels, points, liver):
        inside = points[liver]
        painted = np.full(len(inside), Tissue.LIVER, np.uint8)
        for capsule, wall in self._vessels:
            distance = capsule.distance(inside)
            if wall:
                painted[(distance < wall) & (painted == Tissue.LIVER)] = Tissue.VESSEL_WALL
            painted[distance < 0] = Tissue.BLOOD
        labels[liver] = painted

    def _paint_kidney(self, labels, points, level):
        inside = level < 1
        u = self.kidney.local(points[inside])
        sinus = np.square(u[..., 0] / 0.6) + np.square(u[..., 1] / 0.55)
        sinus = sinus + np.square(u[..., 2] / 0.4) + 0.25 * self._warp[2](points[inside])
        painted = np.full(len(u), Tissue.CORTEX, np.uint8)
        around = (level[inside] < 0.82) & (sinus >= 1)
        outer = u[around]
        medulla = np.zeros(len(outer), bool)
        for apex, axis, width in self._pyramids:
            p = outer - apex
            along = p[:, 0] * axis[0] + p[:, 1] * axis[1] + p[:, 2] * axis[2]
            # A pyramid is broad at the cortex and narrows towards the sinus.
            across = np.square(p).sum(axis=-1) - np.square(along)
            medulla |= (along > 0) & (across < np.square(width * along))
        painted[around] = np.where(medulla, np.uint8(Tissue.MEDULLA), np.uint8(Tissue.CORTEX))
        painted[sinus < 1] = Tissue.SINUS
        labels[inside] = painted


def _pyramids(rng: np.random.Generator) -> list:
    """Cones in units of the kidney's half axes: (apex [3], unit axis [3], slope of the side)."""
    cones = []
    for station in np.linspace(-0.9, 0.9, 5):
        for turn in np.arange(6) * np.pi / 3:
            # Apices stand in a row along the kidney, as the calyces do.
            tip = np.clip(station + rng.normal(0, 0.06), -0.95, 0.95)
            angle = turn + rng.normal(0, 0.15)
            rim = np.sqrt(1 - np.square(tip))
            base = np.array([tip, rim * np.sin(angle), rim * np.cos(angle)])
            apex = np.array([0.55 * tip, 0, 0])
            axis = (base - apex) / np.linalg.norm(base - apex)
            slope = rng.uniform(0.24, 0.36)
            cones.append((apex.astype(np.float32), axis.astype(np.float32), np.float32(slope)))
    return cones


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
