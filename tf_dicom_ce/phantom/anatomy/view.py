"""One image plane of a patient: anatomy in the body, the wall and a device on top."""

import dataclasses
from typing import Protocol

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Noise
from tf_dicom_ce.phantom.geometry import Pose, Probe
from tf_dicom_ce.phantom.tissues import Tissue

#: Layers from the skin inwards: (tissue, thinnest, thickest), mm.
ABDOMINAL = (
    (Tissue.SKIN, 1.5, 2.5),
    (Tissue.FAT, 5, 22),
    (Tissue.FASCIA, 0.5, 0.9),
    (Tissue.MUSCLE, 6, 12),
    (Tissue.FASCIA, 0.4, 0.8),
    (Tissue.FAT, 1, 4),
)
CHEST = (
    (Tissue.SKIN, 1.5, 2.5),
    (Tissue.FAT, 3, 14),
    (Tissue.FASCIA, 0.5, 0.9),
    (Tissue.MUSCLE, 5, 11),
)
NECK = ((Tissue.SKIN, 1.2, 2), (Tissue.FAT, 1.5, 5), (Tissue.FASCIA, 0.3, 0.5))


@dataclasses.dataclass(frozen=True)
class Ribs:
    """Ribs cut across, between the muscles.

    Attributes:
        depth: Of their near surface, mm.
        positions: Of their middles along the face, mm.
        sizes: Half axes across and along, mm, one pair a rib.
    """

    depth: float
    positions: tuple[float, ...]
    sizes: tuple[tuple[float, float], ...]


class Wall:
    """Layers of a patient, with their own undulation in every view.

    Args:
        rng: Source of the thicknesses (one draw a patient).
        layers: As `ABDOMINAL`.
    """

    def __init__(self, rng: np.random.Generator, layers):
        self._tissues = [tissue for tissue, _, _ in layers]
        fat = rng.uniform()  # one habitus: all fat layers are thick together
        self._thickness = [
            low + (high - low) * (fat if tissue == Tissue.FAT else rng.uniform())
            for tissue, low, high in layers
        ]

    @property
    def thickness(self) -> float:
        """Of all layers together, mm."""
        return sum(self._thickness)

    def paint(
        self,
        labels: np.ndarray,
        across: np.ndarray,
        depth: np.ndarray,
        rng: np.random.Generator,
        ribs: Ribs | None = None,
    ) -> None:
        """Paints the wall over `labels`, in place.

        Args:
            labels: uint8 [samples, beams].
            across: Position along the face, mm, float32 [beams].
            depth: Distance from the face, mm, float32 [samples].
            rng: Source of this view's undulation.
            ribs: Ribs within the wall.
        """
        x = np.stack([across, 0 * across, 0 * across], axis=-1).astype(np.float32)
        compression = rng.uniform(0.85, 1.1)
        bottom = np.zeros_like(x[..., 0])
        tilt = rng.normal(0, 0.03)
        for tissue, thickness in zip(self._tissues, self._thickness, strict=True):
            slow, fine = Noise(rng, 45)(x), Noise(rng, 9)(x)
            thick = thickness * compression * (1 + 0.16 * slow + 0.03 * fine)
            top, bottom = bottom, bottom + np.maximum(thick, 0.3)
            slope = tilt * across * np.clip(top / 8, 0, 1)  # the skin stays on the face
            band = (depth[:, None] >= top + slope) & (depth[:, None] < bottom + slope)
            labels[band] = tissue
            if tissue in (Tissue.FAT, Tissue.MUSCLE) and thickness > 4:
                self._septa(labels, band, across, depth, rng)
        if ribs:
            for middle, (half_x, half_z) in zip(ribs.positions, ribs.sizes, strict=True):
                u = (across - middle) / half_x
                v = (depth[:, None] - ribs.depth - half_z) / half_z
                labels[np.square(u) + np.square(v) < 1] = Tissue.BONE

    @staticmethod
    def _septa(labels, band, across, depth, rng):
        """Thin broken strands of connective tissue within a layer."""
        x = np.stack([across, 0 * across, 0 * across], axis=-1).astype(np.float32)
        middle = depth[band.any(axis=1)].mean()
        for _ in range(rng.integers(1, 4)):
            line = middle + rng.normal(0, 2.5) + rng.normal(0, 0.06) * across + Noise(rng, 30)(x)
            whole = Noise(rng, 14)(x) > 0.1
            strand = (np.abs(depth[:, None] - line) < rng.uniform(0.2, 0.4)) & whole
            labels[strand & band] = Tissue.FASCIA


@dataclasses.dataclass(frozen=True)
class Device:
    """A straight instrument from the edge of the image to its tip.

    Attributes:
        tip: (x, z), mm.
        angle: Of its course against the face, radians; above π/2 it comes from the right.
        catheter: A catheter shows two walls and a lumen, a needle one bright line.
    """

    tip: tuple[float, float]
    angle: float
    catheter: bool

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


def make_device(rng: np.random.Generator, depth: float, width: float, catheter: bool) -> Device:
    """An instrument whose tip lies in the middle third of the image.

    Args:
        rng: Source of tip and angle.
        depth: Of the image, mm.
        width: Of the image, mm.
        catheter: Which instrument.
    """
    tip = rng.uniform(-0.15, 0.15) * width, rng.uniform(0.35, 0.6) * depth
    angle = rng.uniform(0.35, 0.85)
    return Device(tip, angle if rng.uniform() < 0.5 else np.pi - angle, catheter)


class Anatomy(Protocol):
    """What lies beneath the wall."""

    def labels(self, points: np.ndarray) -> np.ndarray:
        """Tissue at `points` float32 [..., 3] in mm, uint8 [...]."""


@dataclasses.dataclass(frozen=True)
class View:
    """A plane, ready to be sampled by a probe.

    Attributes:
        anatomy: The patient's.
        pose: The plane.
        wall: The patient's body wall.
        ribs: Ribs within the wall, in this view.
        device: Needle or catheter, or None.
        seed: Of the wall's undulation.
    """

    anatomy: Anatomy
    pose: Pose
    wall: Wall
    ribs: Ribs | None
    device: Device | None
    seed: int

    def labels(self, probe: Probe) -> np.ndarray:
        """Tissue on the probe's grid, uint8 [samples, beams]."""
        points = probe.points()
        labels = self.anatomy.labels(self.pose.to_body(points))
        face = probe.width or probe.radius * np.deg2rad(probe.field)
        across = (((np.arange(probe.beams) + 0.5) / probe.beams - 0.5) * face).astype(np.float32)
        rng = np.random.default_rng(self.seed)
        self.wall.paint(labels, across, probe.ranges, rng, self.ribs)
        if self.device:
            self.device.paint(labels, points)
        return labels


def pose(
    rng: np.random.Generator,
    shift: tuple[float, float] = (0.0, 0.0),
    yaw: float = 0.0,
    rock: float = 0.0,
) -> Pose:
    """A plane near the ideal one.

    Args:
        rng: Source of a jitter of 3 mm and 4°.
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
