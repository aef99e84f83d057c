"""The tissues of the phantom, with their acoustic properties."""

import enum

import numpy as np


class Tissue(enum.IntEnum):
    """Tissue labels; anatomy is a map from points to these.

    Each row holds the label; `echo`, backscatter relative to liver, dB; `attenuation`, one way,
    dB/cm/MHz; `impedance`, MRayl; `variation`, standard deviation of the slow variation of `echo`,
    dB.
    """

    def __new__(cls, label: int, *numbers: float) -> "Tissue":  # noqa: D102
        self = int.__new__(cls, label)
        self._value_ = label
        self.echo, self.attenuation, self.impedance, self.variation = numbers
        return self

    NOTHING = 0, -60, 0.02, 1.55, 0  # beyond the body: gel, air before contact
    SKIN = 1, 6, 0.8, 1.68, 1
    FAT = 2, -7, 0.6, 1.38, 3
    MUSCLE = 3, -5, 0.75, 1.70, 4
    LIVER = 4, 0, 0.5, 1.65, 1.5
    CORTEX = 5, -3.5, 0.5, 1.62, 1.5  # kidney
    MEDULLA = 6, -11, 0.5, 1.61, 1.5  # kidney
    SINUS = 7, 7, 0.55, 1.56, 3  # kidney
    PERIRENAL_FAT = 8, 4, 0.6, 1.40, 2
    VESSEL_WALL = 9, 4, 0.5, 1.72, 1
    BLOOD = 10, -32, 0.15, 1.66, 0.5
    FLUID = 11, -60, 0.02, 1.52, 0
    DIAPHRAGM = 12, 16, 0.7, 1.85, 2
    BONE = 13, 5, 11, 6.0, 2
    GAS = 14, 0, 11, 0.2, 3
    THYROID = 15, 3, 0.55, 1.64, 1.5
    NODE = 16, -12, 0.5, 1.60, 2
    NODULE = 17, -4, 0.5, 1.60, 4
    GALLBLADDER_WALL = 18, 3, 0.5, 1.72, 1
    FASCIA = 19, 9, 0.8, 1.80, 2
    PLEURA = 20, 16, 0.7, 1.80, 2
    LUNG = 21, -6, 4, 0.5, 3
    BOWEL_WALL = 22, -2, 0.6, 1.68, 2
    METAL = 23, 22, 3, 4.0, 1  # needle
    CATHETER = 24, 14, 1.0, 2.2, 1


KIDNEY = (Tissue.CORTEX, Tissue.MEDULLA, Tissue.SINUS)


def table(name: str) -> np.ndarray:
    """The numbers `name` of all tissues by label, float32 [25]; index it with a label map."""
    return np.array([getattr(tissue, name) for tissue in Tissue], np.float32)
