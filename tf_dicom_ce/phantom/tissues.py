"""What the phantom is made of: one row a tissue, the numbers the acoustics needs."""

import dataclasses
import enum

import numpy as np


class Tissue(enum.IntEnum):
    """Tissue labels; anatomy is a map from points to these."""

    NOTHING = 0  # beyond the body: gel, air before contact
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    LIVER = 4
    CORTEX = 5  # kidney
    MEDULLA = 6  # kidney
    SINUS = 7  # kidney
    PERIRENAL_FAT = 8
    VESSEL_WALL = 9
    BLOOD = 10
    FLUID = 11
    DIAPHRAGM = 12
    BONE = 13
    GAS = 14
    THYROID = 15
    NODE = 16
    NODULE = 17
    GALLBLADDER_WALL = 18
    FASCIA = 19
    PLEURA = 20
    LUNG = 21
    BOWEL_WALL = 22
    METAL = 23  # needle
    CATHETER = 24


KIDNEY = (Tissue.CORTEX, Tissue.MEDULLA, Tissue.SINUS)


@dataclasses.dataclass(frozen=True)
class Acoustics:
    """Acoustic numbers of a tissue.

    Attributes:
        echo: Backscatter against liver, dB.
        attenuation: One way, dB/cm/MHz.
        impedance: MRayl.
        variation: Standard deviation of the slow variation of `echo`, dB.
    """

    echo: float
    attenuation: float
    impedance: float
    variation: float = 1.5


ACOUSTICS = {
    Tissue.NOTHING: Acoustics(-60, 0.02, 1.55, 0),
    Tissue.SKIN: Acoustics(6, 0.8, 1.68, 1),
    Tissue.FAT: Acoustics(-7, 0.6, 1.38, 3),
    Tissue.MUSCLE: Acoustics(-5, 0.75, 1.70, 4),
    Tissue.LIVER: Acoustics(0, 0.5, 1.65, 1.5),
    Tissue.CORTEX: Acoustics(-3.5, 0.5, 1.62, 1.5),
    Tissue.MEDULLA: Acoustics(-11, 0.5, 1.61, 1.5),
    Tissue.SINUS: Acoustics(7, 0.55, 1.56, 3),
    Tissue.PERIRENAL_FAT: Acoustics(4, 0.6, 1.40, 2),
    Tissue.VESSEL_WALL: Acoustics(4, 0.5, 1.72, 1),
    Tissue.BLOOD: Acoustics(-32, 0.15, 1.66, 0.5),
    Tissue.FLUID: Acoustics(-60, 0.02, 1.52, 0),
    Tissue.DIAPHRAGM: Acoustics(16, 0.7, 1.85, 2),
    Tissue.BONE: Acoustics(5, 11, 6.0, 2),
    Tissue.GAS: Acoustics(0, 11, 0.2, 3),
    Tissue.THYROID: Acoustics(3, 0.55, 1.64, 1.5),
    Tissue.NODE: Acoustics(-12, 0.5, 1.60, 2),
    Tissue.NODULE: Acoustics(-4, 0.5, 1.60, 4),
    Tissue.GALLBLADDER_WALL: Acoustics(3, 0.5, 1.72, 1),
    Tissue.FASCIA: Acoustics(9, 0.8, 1.80, 2),
    Tissue.PLEURA: Acoustics(16, 0.7, 1.80, 2),
    Tissue.LUNG: Acoustics(-6, 4, 0.5, 3),
    Tissue.BOWEL_WALL: Acoustics(-2, 0.6, 1.68, 2),
    Tissue.METAL: Acoustics(22, 3, 4.0, 1),
    Tissue.CATHETER: Acoustics(14, 1.0, 2.2, 1),
}


def table(name: str) -> np.ndarray:
    """The numbers `name` of all tissues by label, float32 [25]; index it with a label map."""
    return np.array([getattr(ACOUSTICS[tissue], name) for tissue in Tissue], np.float32)
