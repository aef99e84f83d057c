"""A biopsy needle or a drainage catheter in the image plane."""

import dataclasses

import numpy as np

from tf_dicom_ce.phantom.tissues import Tissue


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
