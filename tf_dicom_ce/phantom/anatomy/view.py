"""One image plane of a patient: anatomy in the body, the wall and a device on top."""

import dataclasses
from typing import Protocol

import numpy as np

from tf_dicom_ce.phantom.anatomy.device import Device
from tf_dicom_ce.phantom.anatomy.wall import Ribs, Wall
from tf_dicom_ce.phantom.geometry import Pose, Probe


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
