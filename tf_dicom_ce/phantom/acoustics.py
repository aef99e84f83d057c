"""From a map of tissues to the picture that a scanner makes of it, on the polar grid."""

import dataclasses

import numpy as np
from scipy import ndimage

from tf_dicom_ce.phantom import echoes, speckle
from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.tissues import table
from tf_dicom_ce.phantom.vendors import Vendor

_POOR_CONTACT = 0.25  # of all images
_LIFTED = 0.15  # of the face, at most, and at one end of it


@dataclasses.dataclass(frozen=True)
class Simulation:
    """An image before scan conversion.

    Attributes:
        image: Gray levels, uint8 [samples, beams].
        shadow_db: Loss by tissue, interfaces and poor contact that the nominal TGC does not give
            back, dB, float32 [samples, beams]: positive in shadow, negative where enhanced.
    """

    image: np.ndarray
    shadow_db: np.ndarray


def simulate(
    labels: np.ndarray,
    probe: Probe,
    vendor: Vendor,
    rng: np.random.Generator,
    gain_db: float = 0.0,
) -> Simulation:
    """Simulates one frame.

    Args:
        labels: `Tissue` labels, uint8 [samples, beams].
        probe: The grid.
        vendor: Physics and post-processing.
        rng: The only source of chance; the same state gives the same bytes.
        gain_db: Of the operator, against one that shows liver mid-gray.

    Returns:
        The image and its shadows.

    Raises:
        ValueError: If `labels` is not on the probe's grid.
    """
    if labels.shape != (probe.samples, probe.beams):
        raise ValueError(f"labels {labels.shape} on a grid of {probe.samples} × {probe.beams}")
    lost = two_way_loss(labels, probe) + contact_loss(probe.beams, rng)
    tgc = nominal_tgc(probe, vendor)
    envelope = received(labels, lost, probe, vendor, rng)
    gain = tgc + sliders(probe, vendor, rng)
    image = gray(envelope * 10 ** (gain[:, None] / 20), vendor, gain_db)
    return Simulation(image, lost - tgc[:, None])


def received(
    labels: np.ndarray,
    lost: np.ndarray,
    probe: Probe,
    vendor: Vendor,
    rng: np.random.Generator,
) -> np.ndarray:
    """The envelope of all echoes before TGC.

    Args:
        labels: `Tissue` labels, uint8 [samples, beams].
        lost: Two-way loss, dB, float32 [samples, beams].
        probe: The grid.
        vendor: Physics.
        rng: The only source of chance.

    Returns:
        Amplitude against mean liver at the face, float32 [samples, beams].
    """
    scatter = echoes.scatterers(labels, probe, rng)
    specular = vendor.specular * echoes.interfaces(labels, probe, rng)
    # An interface reflects what arrives, not what is left behind it.
    arriving = np.concatenate([lost[:1], lost[:-1]])
    coherent = specular * 10 ** (-arriving / 20) + echoes.a_lines(specular, lost, labels)
    tgc = nominal_tgc(probe, vendor)
    echo = scatter * 10 ** (-lost / 20)
    parts = (
        echo,
        echoes.trail(echo, probe, vendor.multipath),
        echoes.bounced(scatter, lost, labels),
        echoes.b_lines(labels, lost, tgc, rng),
        echoes.haze(probe, vendor.reverberation, rng),
    )
    diffuse = np.sqrt(sum(part**2 for part in parts))
    uneven = 10 ** (aberration(probe, vendor, rng) / 20)
    return speckle.envelope(diffuse * uneven, coherent * uneven, probe, vendor, rng)


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
    return vendor.aberration * speckle.smooth((1, probe.beams), (0, 2.5), rng)[0]


def gray(envelope: np.ndarray, vendor: Vendor, gain: float = 0.0) -> np.ndarray:
    """Log compression, edge enhancement, gray map.

    x = 1 + (20 log10(envelope) + gain - white) / dynamic range, then x + edge·(x - blurred x),
    clipped to [0, 1], then (1 - c)·x + c·x²(3 - 2x) with the contrast c.

    Args:
        envelope: Amplitude against liver, float32 [samples, beams].
        vendor: Gives the post-processing.
        gain: Of the operator, dB.

    Returns:
        uint8 [samples, beams].
    """
    level = 20 * np.log10(np.maximum(envelope, np.float32(1e-9)))
    x = 1 + (level + np.float32(gain - vendor.white)) / np.float32(vendor.dynamic_range)
    x = np.clip(x, -0.1, 1.1)  # the logarithm's deep holes must not enhance their surroundings
    x += vendor.edge * (x - ndimage.gaussian_filter(x, 1.5, truncate=2.5))
    x = np.clip(x, 0, 1)
    x = x + vendor.contrast * (x * x * (3 - 2 * x) - x)
    return np.rint(255 * x).astype(np.uint8)
