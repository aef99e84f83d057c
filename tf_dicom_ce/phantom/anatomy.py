"""Anatomy as implicit 3-D surfaces: a patient is a map from points (mm) to tissue labels.

Axes of every region, for the ideal plane of its probe: x across the image, z away from the skin,
y out of the plane.
"""

import numpy as np

from tf_dicom_ce.phantom.shapes import Ellipsoid, Noise, vessel_tree
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
        self._liver = Ellipsoid(
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
            (2 + rng.normal(0, 4), 0, 62), (112 * size, 105, 82 * size), self._liver.turn
        )
        hepatic, portal = (-62, rng.normal(0, 8), 92), (8, rng.normal(-12, 8), 72)
        self._hepatic = vessel_tree(rng, hepatic, (0.9, 0.2, -0.5), 4.0)
        self._portal = vessel_tree(rng, portal, (-0.9, 0.4, -0.15), 4.6)
        self._gallbladder = Ellipsoid(
            (18 + rng.normal(0, 8), -32 + rng.normal(0, 8), 52 + rng.normal(0, 6)),
            (rng.uniform(18, 32), rng.uniform(10, 16), rng.uniform(9, 14)),
            turn=rng.normal(0.3, 0.2),
        )
        loops = [
            Ellipsoid(
                (rng.uniform(70, 130), rng.uniform(-90, 90), rng.uniform(38, 80)),
                (rng.uniform(14, 26), rng.uniform(25, 60), rng.uniform(11, 18)),
            )
            for _ in range(9)
        ]
        content = np.where(rng.uniform(size=9) < 0.6, Tissue.GAS, Tissue.FLUID)
        self._loops = list(zip(loops, content, strict=True))

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        slow, fine = (noise(points) for noise in self._warp[:2])
        wobble = 0.05 * slow + 0.02 * fine
        kidney = self.kidney.level(points) * (1 + 0.4 * wobble)
        labels = np.where(fine + slow > 0.8, Tissue.MUSCLE, Tissue.FAT).astype(np.uint8)
        labels[points[..., 2] > self.kidney.centre[2] + 22 + 4 * slow] = Tissue.MUSCLE
        for loop, content in self._loops:
            _paint(labels, loop.level(points), (1, Tissue.BOWEL_WALL), (0.82, content))
        liver = self._liver.level(points) + wobble < 1
        labels[liver] = self._liver_labels(points[liver])
        gallbladder = self._gallbladder.level(points)
        _paint(labels, gallbladder, (1, Tissue.GALLBLADDER_WALL), (0.86, Tissue.FLUID))
        shell = self._fat_shell + 0.03 * fine
        if self._fluid:
            near = points[..., 2] < self.kidney.centre[2] + 6
            labels[near & (kidney < shell + self._fluid * (1 + 0.4 * slow))] = Tissue.FLUID
        labels[kidney < shell] = Tissue.PERIRENAL_FAT
        inside = kidney < 1
        labels[inside] = self._kidney_labels(points[inside], kidney[inside])
        dome = self._dome.level(points) + 0.4 * wobble
        cranial = points[..., 0] + 0.9 * (points[..., 2] - 100) < 40 + 6 * slow
        labels[cranial & (dome > 1)] = Tissue.DIAPHRAGM
        labels[cranial & (dome > 1.028)] = Tissue.LUNG
        return labels

    def _liver_labels(self, points: np.ndarray) -> np.ndarray:
        """Liver with its vessels; those of the portal vein have a visible wall of 1 mm."""
        labels = np.full(len(points), Tissue.LIVER, np.uint8)
        for vessel in self._hepatic:
            labels[vessel.distance(points) < 0] = Tissue.BLOOD
        for vessel in self._portal:
            distance = vessel.distance(points)
            labels[(distance < 1) & (labels == Tissue.LIVER)] = Tissue.VESSEL_WALL
            labels[distance < 0] = Tissue.BLOOD
        return labels

    def _kidney_labels(self, points: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Cortex, medulla and sinus at points within the kidney."""
        u = self.kidney.local(points)
        sinus = np.square(u[..., 0] / 0.6) + np.square(u[..., 1] / 0.55)
        sinus = sinus + np.square(u[..., 2] / 0.4) + 0.25 * self._warp[2](points)
        labels = np.full(len(u), Tissue.CORTEX, np.uint8)
        around = (level < 0.82) & (sinus >= 1)
        outer = u[around]
        medulla = np.zeros(len(outer), bool)
        for apex, axis, width in self._pyramids:
            p = outer - apex
            along = p[:, 0] * axis[0] + p[:, 1] * axis[1] + p[:, 2] * axis[2]
            # A pyramid is broad at the cortex and narrows towards the sinus.
            across = np.square(p).sum(axis=-1) - np.square(along)
            medulla |= (along > 0) & (across < np.square(width * along))
        labels[around] = np.where(medulla, np.uint8(Tissue.MEDULLA), np.uint8(Tissue.CORTEX))
        labels[sinus < 1] = Tissue.SINUS
        return labels


def _paint(labels: np.ndarray, level: np.ndarray, *shells: tuple, within=True) -> None:
    """Paints shells from the outside inwards, each given as (its upper level, its tissue)."""
    for bound, tissue in shells:
        labels[(level < bound) & within] = tissue


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
        self._depth, self._fluid = depth, fluid
        top = depth + fluid + 10
        loops = [
            Ellipsoid(
                (rng.uniform(-95, 95), rng.uniform(-50, 50), top + rng.uniform(-14, 60)),
                (rng.uniform(12, 24), rng.uniform(20, 60), rng.uniform(9, 17)),
                turn=rng.normal(0, 0.5),
            )
            for _ in range(16)
        ]
        contents = [Tissue.GAS, Tissue.FLUID, Tissue.BOWEL_WALL]
        content = rng.choice(contents, 16, p=[0.4, 0.3, 0.3])
        self._loops = list(zip(loops, content, strict=True))
        self._liver = (
            Ellipsoid((-85, 0, depth + 40), (60, 60, 50), turn=0.4) if rng.uniform() < 0.3 else None
        )

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        slow, fine = (noise(points) for noise in self._warp)
        z = points[..., 2] - self._depth - 1.5 * slow
        labels = np.full(z.shape, Tissue.MUSCLE, np.uint8)
        labels[z > -0.8] = Tissue.FASCIA
        labels[z > 0] = Tissue.FAT
        if self._fluid:
            bottom = self._fluid + 12 + 10 * slow + 4 * fine
            labels[(z > 0) & (z <= bottom)] = Tissue.FLUID
        labels[z > self._fluid + 75 + 6 * slow] = Tissue.MUSCLE
        if self._liver:
            _paint(labels, self._liver.level(points) + 0.03 * fine, (1, Tissue.LIVER), within=z > 0)
        for loop, content in self._loops:
            level = loop.level(points) + 0.08 * fine
            _paint(labels, level, (1, Tissue.BOWEL_WALL), (0.8, content), within=z > 0)
        return labels


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
        self._lobe = Ellipsoid((0, 0, 15 + rng.normal(0, 1)), (9 * size, 24, 7.5 * size))
        self._isthmus = Ellipsoid((-12, -2, 11), (11, 9, 2.2))
        # Tubes along the neck: x, z, radius or radii, mm.
        self._trachea = (-21 + rng.normal(0, 1.5), 19 + rng.normal(0, 1), 8.5)
        self._carotid = (13 + rng.normal(0, 1.2), 18 + rng.normal(0, 1.5), rng.uniform(2.8, 3.8))
        self._jugular = (18 + rng.normal(0, 1.5), 12.5, rng.uniform(3.5, 7), rng.uniform(1.6, 4))
        rng.uniform()  # not used; without it the same seed would draw other nodules and nodes
        depth = self._lobe.centre[2]
        lumps = [
            Ellipsoid(
                (rng.uniform(-4, 4), rng.uniform(-8, 8), depth + rng.uniform(-2, 2)),
                tuple(rng.uniform(2, 6.5) * rng.uniform(0.75, 1.2, 3)),
            )
            for _ in range(nodules)
        ]
        core = np.where(rng.uniform(size=nodules) < 0.3, Tissue.FLUID, Tissue.NODULE)
        self._nodules = list(zip(lumps, core, strict=True))
        depth = self._carotid[1]
        self._nodes = [
            Ellipsoid(
                (
                    rng.uniform(8, 18),
                    rng.normal(0, 5),
                    depth + rng.choice([-1, 1]) * rng.uniform(6, 10),
                ),
                (rng.uniform(3.5, 9), rng.uniform(4, 9), rng.uniform(2, 5)),
                turn=rng.normal(0, 0.4),
            )
            for _ in range(nodes)
        ]

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""
        points = points * np.array([self._side, 1, 1], np.float32)
        slow, fine = (noise(points) for noise in self._warp)
        x, z = points[..., 0] + 0.6 * slow, points[..., 2] + 0.6 * slow
        labels = np.full(x.shape, Tissue.MUSCLE, np.uint8)
        labels[np.abs(z - 8 - 0.03 * np.square(x - 4)) < 0.35] = Tissue.FASCIA
        labels[z > 26 - 6 * np.clip((x + 3 * fine + 2) / 8, 0, 1)] = Tissue.FAT
        labels[z > 26 + slow] = Tissue.MUSCLE
        labels[(np.abs(z - 26 - slow) < 0.35) & (fine > -0.5)] = Tissue.FASCIA
        wobble = 0.05 * slow + 0.03 * fine
        gland = np.minimum(self._lobe.level(points), self._isthmus.level(points)) + wobble
        _paint(labels, gland, (1.06, Tissue.FASCIA), (1, Tissue.THYROID))
        for nodule, core in self._nodules:
            level = nodule.level(points) + 2 * wobble
            _paint(labels, level, (1, Tissue.NODULE), (0.7, core), within=gland < 1)
        for node in self._nodes:
            level = node.level(points) + wobble
            _paint(labels, level, (1, Tissue.NODE), (0.25, Tissue.SINUS), within=gland > 1.06)
        x0, z0, rx, rz = self._jugular
        labels[np.hypot((points[..., 0] - x0) / rx, (points[..., 2] - z0) / rz) < 1] = Tissue.BLOOD
        x0, z0, r = self._trachea
        trachea = np.hypot(points[..., 0] - x0, points[..., 2] - z0)
        _paint(labels, trachea, (r, Tissue.MUSCLE), (r - 1.5, Tissue.GAS))
        # Last: nodes and the vein give way to the artery.
        x0, z0, r = self._carotid
        carotid = np.hypot(points[..., 0] - x0, points[..., 2] - z0)
        _paint(labels, carotid, (r + 0.7, Tissue.VESSEL_WALL), (r, Tissue.BLOOD))
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
        self._kind = lesion
        size = rng.uniform(4, 11)
        self._lesion = Ellipsoid(
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
        if self._kind is not None:
            level = self._lesion.level(points) + 0.07 * fine + 0.05 * slow
            labels[level < 1] = self._kind
            if self._kind == Tissue.NODE:
                labels[level < 0.3] = Tissue.SINUS
            elif self._kind == Tissue.FLUID:
                labels[(level < 1) & (level > 0.88)] = Tissue.MUSCLE
        return labels


class Chest:
    """A patient's chest wall, and lung or effusion behind it.

    Args:
        rng: Source of the patient's anatomy.
        depth: Of the pleura beneath the skin, mm.
        effusion: Depth of the pleural fluid, mm; 0 for none.
    """

    def __init__(self, rng: np.random.Generator, depth: float, effusion: float = 0.0):
        self._warp = Noise(rng, 60), Noise(rng, 18)
        self._depth, self._effusion = depth, effusion
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
        slow, fine = (noise(points) for noise in self._warp)
        z = points[..., 2] - self._depth - 0.8 * slow
        labels = np.full(z.shape, Tissue.MUSCLE, np.uint8)
        if not self._effusion:
            labels[z > 0] = Tissue.PLEURA
            labels[z > 0.9] = Tissue.LUNG
            return labels
        labels[z > 0] = Tissue.FASCIA
        labels[z > 0.7] = Tissue.FLUID
        lung = np.minimum(self._wedge.level(points), 1 + (self._effusion + 60 - z) / 40)
        lung = lung + 0.08 * slow + 0.04 * fine
        _paint(labels, lung, (1.05, Tissue.PLEURA), (1, Tissue.LUNG), within=z > 2)
        dome = self._dome.level(points) + 0.04 * slow
        _paint(labels, dome, (1.03, Tissue.DIAPHRAGM), (1, Tissue.LIVER), within=z > 0.7)
        return labels
