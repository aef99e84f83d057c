"""What a sonographer looks at: each scene makes patients, and views of a patient.

A view at displacement 0 lies near the standard plane, at 1 far beside it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from tf_dicom_ce.phantom.anatomy.abdomen import Ascites, RightUpperQuadrant
from tf_dicom_ce.phantom.anatomy.superficial import Chest, Neck, SoftTissue
from tf_dicom_ce.phantom.anatomy.view import (
    ABDOMINAL,
    CHEST,
    NECK,
    Anatomy,
    Ribs,
    View,
    Wall,
    make_device,
    pose,
)
from tf_dicom_ce.phantom.tissues import Tissue


@dataclasses.dataclass(frozen=True)
class Patient:
    """One patient in one scene: the anatomy and the wall over it."""

    anatomy: Anatomy
    wall: Wall


@dataclasses.dataclass(frozen=True)
class Scene:
    """A region and how it is examined.

    Attributes:
        name: For the truth table.
        layers: Of the body wall.
        anatomy: (rng, wall's thickness in mm) -> anatomy.
        probes: Probe -> how often it is chosen.
        far: Shift along x and y at displacement 1, mm.
        ribs: How often a view has ribs in it.
        sway: Standard deviation of the position along x between views of any quality, mm.
    """

    name: str
    layers: tuple
    anatomy: Callable[[np.random.Generator, float], Anatomy]
    probes: dict[str, float]
    far: tuple[float, float]
    ribs: float = 0.0
    sway: float = 4.0

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
        """Draws a view of a patient.

        Args:
            patient: Of this scene.
            rng: Source of pose, ribs and device.
            displacement: 0 (standard plane) to 1 (far beside it).
            device: `needle`, `catheter` or None.
        """
        side = rng.choice([-1.0, 1.0])
        x = displacement * self.far[0] + rng.normal(0, self.sway)
        shift = (x, side * displacement * self.far[1])
        yaw = displacement * rng.normal(0, 0.25)
        # Leaning back towards what matters, more or less, as a hand does.
        rock = float(np.clip(-x / 150 * rng.uniform(-0.6, 1.2) + rng.normal(0, 0.12), -0.45, 0.45))
        deep = "SC6-1" in self.probes
        instrument = None
        if device:
            depth, width = (110.0, 120.0) if deep else (34.0, 38.0)
            instrument = make_device(rng, depth, width, device == "catheter")
        ribs = _ribs(rng, patient.wall) if rng.uniform() < self.ribs else None
        seed = int(rng.integers(2**31))
        return View(
            patient.anatomy, pose(rng, shift, yaw, rock), patient.wall, ribs, instrument, seed
        )


def _ribs(rng: np.random.Generator, wall: Wall) -> Ribs:
    """One to three ribs, never evenly spaced, where they leave a window."""
    count = rng.integers(1, 4)
    first = rng.uniform(-45, 10)
    gaps = rng.uniform(20, 38, count)
    positions = tuple(float(first + gap) for gap in np.cumsum(gaps) - gaps[0])
    sizes = tuple((rng.uniform(3.5, 6.5), rng.uniform(2, 3.6)) for _ in positions)
    return Ribs(max(wall.thickness - rng.uniform(6, 9), 5), positions, sizes)


_CURVED = {"SC6-1": 1.0}
_FLAT = {"SL10-2": 0.55, "SL15-4": 0.45}


def _right_upper_quadrant(name: str, fluid: bool) -> Scene:
    def anatomy(rng: np.random.Generator, wall: float) -> RightUpperQuadrant:
        return RightUpperQuadrant(rng, fluid)

    return Scene(name, ABDOMINAL, anatomy, _CURVED, (25, 125), ribs=0.35, sway=32)


def _chest(name: str, effusion: tuple[float, float] | None, *seen, ribs: float) -> Scene:
    def anatomy(rng: np.random.Generator, wall: float) -> Chest:
        return Chest(rng, 1.15 * wall + 2, rng.uniform(*effusion) if effusion else 0.0)

    return Scene(name, CHEST, anatomy, *seen, ribs=ribs)


def _soft_tissue(name: str, lesion: Tissue | None, probes: dict[str, float] = _FLAT) -> Scene:
    def anatomy(rng: np.random.Generator, wall: float) -> SoftTissue:
        return SoftTissue(rng, lesion, bone=rng.uniform() < 0.3)

    return Scene(name, NECK, anatomy, probes, (6, 10))


SCENES = {
    scene.name: scene
    for scene in (
        _right_upper_quadrant("right upper quadrant", False),
        _right_upper_quadrant("right upper quadrant with fluid", True),
        Scene(
            "ascites",
            ABDOMINAL,
            lambda rng, wall: Ascites(rng, wall, rng.uniform(15, 55)),
            _CURVED,
            (30, 30),
        ),
        Scene("bowel", ABDOMINAL, lambda rng, wall: Ascites(rng, wall, 0.0), _CURVED, (30, 30)),
        _chest("lung", None, {"SC6-1": 0.6, "SL10-2": 0.4}, (10, 10), ribs=0.6),
        _chest("effusion", (15, 50), _CURVED, (20, 20), ribs=0.5),
        Scene("thyroid", NECK, lambda rng, wall: Neck(rng), _FLAT, (8, 22)),
        Scene(
            "thyroid nodule",
            NECK,
            lambda rng, wall: Neck(rng, nodules=rng.integers(1, 3)),
            _FLAT,
            (8, 22),
        ),
        Scene(
            "neck node", NECK, lambda rng, wall: Neck(rng, nodes=rng.integers(1, 4)), _FLAT, (8, 22)
        ),
        Scene("lymph node", NECK, lambda rng, wall: SoftTissue(rng, Tissue.NODE), _FLAT, (6, 10)),
        _soft_tissue("soft tissue mass", Tissue.NODULE),
        _soft_tissue("collection", Tissue.FLUID, {**_FLAT, "SC6-1": 0.15}),
        _soft_tissue("soft tissue", None),
    )
}
