"""The scenes of an examination: each scene makes patients, and views of a patient.

A patient is an anatomy with a body wall over it. A view is an image plane through both, optionally
with ribs in the wall and a device. With displacement 0 the view is near the standard plane, with 1
far from it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from tf_dicom_ce.phantom.anatomy import Ascites, Chest, Neck, RightUpperQuadrant, SoftTissue
from tf_dicom_ce.phantom.geometry import Pose, Probe
from tf_dicom_ce.phantom.shapes import Noise
from tf_dicom_ce.phantom.tissues import Tissue

Anatomy = Ascites | Chest | Neck | RightUpperQuadrant | SoftTissue

#: Of each, in mm: its middle along the face, depth of its near side, half axes across and along.
Ribs = list[tuple[float, float, float, float]]

#: Layers from the skin inwards: (tissue, thinnest, thickest), mm.
_ABDOMINAL = (
    (Tissue.SKIN, 1.5, 2.5),
    (Tissue.FAT, 5, 22),
    (Tissue.FASCIA, 0.5, 0.9),
    (Tissue.MUSCLE, 6, 12),
    (Tissue.FASCIA, 0.4, 0.8),
    (Tissue.FAT, 1, 4),
)
_CHEST = (
    (Tissue.SKIN, 1.5, 2.5),
    (Tissue.FAT, 3, 14),
    (Tissue.FASCIA, 0.5, 0.9),
    (Tissue.MUSCLE, 5, 11),
)
_NECK = ((Tissue.SKIN, 1.2, 2), (Tissue.FAT, 1.5, 5), (Tissue.FASCIA, 0.3, 0.5))


class Wall:
    """Layers of a patient, drawn once, with a new undulation in every view."""

    def __init__(self, rng: np.random.Generator, layers: tuple):
        fat = rng.uniform()  # one habitus: all fat layers are thick, or all are thin
        self._layers = [
            (tissue, low + (high - low) * (fat if tissue == Tissue.FAT else rng.uniform()))
            for tissue, low, high in layers
        ]
        #: Of all layers together, mm.
        self.thickness = sum(thickness for _, thickness in self._layers)

    def paint(self, labels: np.ndarray, probe: Probe, rng: np.random.Generator) -> None:
        """Paints the wall over `labels` uint8 [samples, beams], in place."""
        across, depth = probe.face, probe.ranges[:, None]
        x = np.stack([across, 0 * across, 0 * across], axis=-1).astype(np.float32)
        compression = rng.uniform(0.85, 1.1)
        bottom = np.zeros_like(across)
        tilt = rng.normal(0, 0.03)
        for tissue, thickness in self._layers:
            slow, fine = Noise(rng, 45)(x), Noise(rng, 9)(x)
            thick = thickness * compression * (1 + 0.16 * slow + 0.03 * fine)
            top, bottom = bottom, bottom + np.maximum(thick, 0.3)
            slope = tilt * across * np.clip(top / 8, 0, 1)  # the skin stays on the face
            band = (depth >= top + slope) & (depth < bottom + slope)
            labels[band] = tissue
            if tissue in (Tissue.FAT, Tissue.MUSCLE) and thickness > 4:
                # Thin broken strands of connective tissue within the layer.
                middle = depth[band.any(axis=1)].mean()
                for _ in range(rng.integers(1, 4)):
                    line = middle + rng.normal(0, 2.5) + rng.normal(0, 0.06) * across
                    line = line + Noise(rng, 30)(x)
                    whole = Noise(rng, 14)(x) > 0.1
                    strand = (np.abs(depth - line) < rng.uniform(0.2, 0.4)) & whole
                    labels[strand & band] = Tissue.FASCIA


@dataclasses.dataclass(frozen=True)
class Device:
    """A straight instrument from the edge of the image to its tip."""

    tip: tuple[float, float]  # (x, z), mm
    angle: float  # between its course and the face, radians; above π/2 it comes from the right
    catheter: bool  # a catheter shows two walls and a lumen, a needle one bright line

    def paint(self, labels: np.ndarray, points: np.ndarray) -> None:
        """Paints the instrument over `labels` [samples, beams] at `points` [..., 2], in place."""
        direction = np.array([np.cos(self.angle), np.sin(self.angle)], np.float32)
        p = points - np.asarray(self.tip, np.float32)
        along = p[..., 0] * direction[0] + p[..., 1] * direction[1]
        across = np.abs(p[..., 1] * direction[0] - p[..., 0] * direction[1])
        if self.catheter:
            labels[(along < 0) & (across < 1.5)] = Tissue.CATHETER
            labels[(along < -1) & (across < 0.7)] = Tissue.FLUID
        else:
            labels[(along < 0) & (across < 0.5)] = Tissue.METAL


@dataclasses.dataclass(frozen=True)
class Patient:
    """One patient in one scene."""

    anatomy: Anatomy
    wall: Wall


@dataclasses.dataclass(frozen=True)
class View:
    """A plane of a patient, ready to be sampled by a probe."""

    patient: Patient
    pose: Pose
    ribs: Ribs
    device: Device | None
    seed: int  # of the wall's undulation

    def labels(self, probe: Probe) -> np.ndarray:
        """Tissue on the probe's grid, uint8 [samples, beams]."""
        points = probe.points()
        labels = self.patient.anatomy.labels(self.pose.to_body(points))
        self.patient.wall.paint(labels, probe, np.random.default_rng(self.seed))
        for middle, depth, half_x, half_z in self.ribs:
            u = (probe.face - middle) / half_x
            v = (probe.ranges[:, None] - depth - half_z) / half_z
            labels[np.square(u) + np.square(v) < 1] = Tissue.BONE
        if self.device:
            self.device.paint(labels, points)
        return labels


@dataclasses.dataclass(frozen=True)
class Scene:
    """A body region and its examination."""

    layers: tuple  # of the body wall
    anatomy: Callable[[np.random.Generator, float], Anatomy]  # of rng and the wall's thickness, mm
    probes: dict[str, float]  # probe -> how often it is chosen
    far: tuple[float, float]  # shift along x and y at displacement 1, mm
    ribs: float = 0.0  # how often a view has ribs in it
    sway: float = 4.0  # standard deviation of x between views of any quality, mm

    def make_patient(self, rng: np.random.Generator) -> Patient:
        """Draws a patient."""
        wall = Wall(rng, self.layers)
        return Patient(self.anatomy(rng, wall.thickness), wall)

    def make_view(
        self,
        patient: Patient,
        rng: np.random.Generator,
        displacement: float = 0.0,
        device: str | None = None,
    ) -> View:
        """Draws a view of a patient of this scene, perhaps with a `needle` or a `catheter`."""
        side = rng.choice([-1.0, 1.0])
        x = displacement * self.far[0] + rng.normal(0, self.sway)
        shift = (x, side * displacement * self.far[1])
        yaw = displacement * rng.normal(0, 0.25)
        # Lean back towards the target, more or less, as a hand does.
        rock = float(np.clip(-x / 150 * rng.uniform(-0.6, 1.2) + rng.normal(0, 0.12), -0.45, 0.45))
        instrument = None
        if device:
            depth, width = (110.0, 120.0) if "SC6-1" in self.probes else (34.0, 38.0)
            instrument = _make_device(rng, depth, width, device == "catheter")
        ribs = _make_ribs(rng, patient.wall.thickness) if rng.uniform() < self.ribs else []
        seed = int(rng.integers(2**31))
        return View(patient, pose(rng, shift, yaw, rock), ribs, instrument, seed)


def pose(rng: np.random.Generator, shift: tuple[float, float], yaw: float, rock: float) -> Pose:
    """A plane near the ideal one, with a jitter of 3 mm and 4°.

    Args:
        rng: Source of the jitter.
        shift: Along x and y, mm.
        yaw: Turn about z, radians.
        rock: Turn within the image, radians: the beam leans along x.
    """
    yaw = yaw + rng.normal(0, 0.07)
    tilt = rng.normal(0, 0.07)
    across = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    along = np.array([-np.sin(yaw) * np.sin(tilt), np.cos(yaw) * np.sin(tilt), np.cos(tilt)])
    across, along = (
        np.cos(rock) * across - np.sin(rock) * along,
        np.sin(rock) * across + np.cos(rock) * along,
    )
    origin = np.array([shift[0], shift[1], 0.0]) + rng.normal(0, 3, 3) * (1, 1, 0)
    return Pose(origin, across, along)


def _make_device(rng: np.random.Generator, depth: float, width: float, catheter: bool) -> Device:
    """An instrument with its tip in the middle third of an image of `width` × `depth` mm."""
    tip = rng.uniform(-0.15, 0.15) * width, rng.uniform(0.35, 0.6) * depth
    angle = rng.uniform(0.35, 0.85)
    return Device(tip, angle if rng.uniform() < 0.5 else np.pi - angle, catheter)


def _make_ribs(rng: np.random.Generator, wall: float) -> Ribs:
    """One to three unevenly spaced ribs that leave a window; `wall` is its thickness, mm."""
    count = rng.integers(1, 4)
    first = rng.uniform(-45, 10)
    gaps = rng.uniform(20, 38, count)
    middles = first + (np.cumsum(gaps) - gaps[0])
    sizes = [(rng.uniform(3.5, 6.5), rng.uniform(2, 3.6)) for _ in middles]
    depth = max(wall - rng.uniform(6, 9), 5)
    return [(float(middle), depth, *size) for middle, size in zip(middles, sizes, strict=True)]


_CURVED = {"SC6-1": 1.0}
_FLAT = {"SL10-2": 0.55, "SL15-4": 0.45}


def _right_upper_quadrant(fluid: bool) -> Scene:
    def anatomy(rng: np.random.Generator, wall: float) -> Anatomy:
        return RightUpperQuadrant(rng, fluid)

    return Scene(_ABDOMINAL, anatomy, _CURVED, (25, 125), ribs=0.35, sway=32)


def _abdomen(fluid: tuple[float, float] | None) -> Scene:
    def anatomy(rng: np.random.Generator, wall: float) -> Anatomy:
        return Ascites(rng, wall, rng.uniform(*fluid) if fluid else 0.0)

    return Scene(_ABDOMINAL, anatomy, _CURVED, (30, 30))


def _chest(effusion: tuple[float, float] | None, *seen, ribs: float) -> Scene:
    def anatomy(rng: np.random.Generator, wall: float) -> Anatomy:
        return Chest(rng, 1.15 * wall + 2, rng.uniform(*effusion) if effusion else 0.0)

    return Scene(_CHEST, anatomy, *seen, ribs=ribs)


def _neck(**lumps: tuple[int, int]) -> Scene:
    """A neck scene with `nodules` or `nodes`: (least number, upper bound, excluded)."""

    def anatomy(rng: np.random.Generator, wall: float) -> Anatomy:
        return Neck(rng, **{kind: rng.integers(*count) for kind, count in lumps.items()})

    return Scene(_NECK, anatomy, _FLAT, (8, 22))


def _soft_tissue(lesion: Tissue | None, probes: dict = _FLAT, bone: float = 0.3) -> Scene:
    """A soft tissue scene with a lesion; `bone` is the probability of a bone at depth."""

    def anatomy(rng: np.random.Generator, wall: float) -> Anatomy:
        return SoftTissue(rng, lesion, bone=bool(bone) and rng.uniform() < bone)

    return Scene(_NECK, anatomy, probes, (6, 10))


#: By name, as in the truth table.
SCENES = {
    "right upper quadrant": _right_upper_quadrant(fluid=False),
    "right upper quadrant with fluid": _right_upper_quadrant(fluid=True),
    "ascites": _abdomen((15, 55)),
    "bowel": _abdomen(None),
    "lung": _chest(None, {"SC6-1": 0.6, "SL10-2": 0.4}, (10, 10), ribs=0.6),
    "effusion": _chest((15, 50), _CURVED, (20, 20), ribs=0.5),
    "thyroid": _neck(),
    "thyroid nodule": _neck(nodules=(1, 3)),
    "neck node": _neck(nodes=(1, 4)),
    "lymph node": _soft_tissue(Tissue.NODE, bone=0.0),
    "soft tissue mass": _soft_tissue(Tissue.NODULE),
    "collection": _soft_tissue(Tissue.FLUID, {**_FLAT, "SC6-1": 0.15}),
    "soft tissue": _soft_tissue(None),
}
