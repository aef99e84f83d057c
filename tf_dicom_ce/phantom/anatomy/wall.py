"""The body wall: layers and ribs that follow the probe, as the probe presses on the skin."""

import dataclasses

import numpy as np

from tf_dicom_ce.phantom.anatomy.shapes import Noise
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
