"""What the sound loses on its way and the scanner gives back, in dB."""

import numpy as np

from tf_dicom_ce.phantom import noise
from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.tissues import table
from tf_dicom_ce.phantom.vendors import Vendor

_POOR_CONTACT = 0.25  # of all images
_LIFTED = 0.15  # of the face, at most, and at one end of it


def two_way_loss(labels: np.ndarray, probe: Probe) -> np.ndarray:
    """Loss on the way to every sample and back: 2f ∫α dr - Σ 20 log10(1 - R²).

    R = (Z' - Z) / (Z' + Z) at every change of impedance; 1 - R² is the amplitude that passes
    forth and back.

    Args:
        labels: Tissue labels, uint8 [samples, beams].
        probe: The grid; its frequency is f.

    Returns:
        dB, float32 [samples, beams], at the middle of the samples.
    """
    step = probe.depth / probe.samples / 10  # cm
    absorbed = 2 * probe.frequency * step * table("attenuation")[labels]
    impedance = table("impedance")[labels]
    reflection = np.diff(impedance, axis=0) / (impedance[1:] + impedance[:-1])
    loss = np.cumsum(absorbed, axis=0) - absorbed / 2
    loss[1:] -= np.cumsum(20 * np.log10(1 - reflection**2), axis=0)
    return loss.astype(np.float32)


def contact_loss(beams: int, rng: np.random.Generator) -> np.ndarray:
    """Loss where an end of the face is lifted off the skin, in some images: dB, float32 [beams]."""
    poor, left = rng.random(2) < (_POOR_CONTACT, 0.5)
    extent, loss = rng.uniform((0.03, 6), (_LIFTED, 30))
    across = (np.arange(beams, dtype=np.float32) + 0.5) / beams
    lifted = 1 / (1 + np.exp((across - extent) / 0.015))
    return (poor * loss * (lifted if left else lifted[::-1])).astype(np.float32)


def nominal_tgc(probe: Probe, vendor: Vendor) -> np.ndarray:
    """Gain 2f·α·r that undoes the attenuation α of even tissue: dB, float32 [samples]."""
    return (2 * probe.frequency * vendor.tgc * probe.ranges / 10).astype(np.float32)


def sliders(probe: Probe, vendor: Vendor, rng: np.random.Generator) -> np.ndarray:
    """What the operator's eight sliders add to the TGC: dB, float32 [samples]."""
    knobs = vendor.sliders * rng.standard_normal(8)
    at = np.linspace(0, probe.depth, 8)
    return np.interp(probe.ranges, at, knobs).astype(np.float32)


def aberration(probe: Probe, vendor: Vendor, rng: np.random.Generator) -> np.ndarray:
    """Loss or gain of every beam by the uneven body wall: dB, float32 [beams]."""
    return vendor.aberration * noise.smooth((1, probe.beams), (0, 2.5), rng)[0]
