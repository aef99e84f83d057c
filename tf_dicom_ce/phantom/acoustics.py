"""From a map of tissues to the picture that a scanner makes of it, on the polar grid."""

import dataclasses

import numpy as np

from tf_dicom_ce.phantom import display, loss, reflectors, reverberation, speckle
from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.vendors import Vendor


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
    lost = loss.two_way_loss(labels, probe) + loss.contact_loss(probe.beams, rng)
    tgc = loss.nominal_tgc(probe, vendor)
    envelope = received(labels, lost, probe, vendor, rng)
    gain = tgc + loss.sliders(probe, vendor, rng)
    image = display.gray(envelope * 10 ** (gain[:, None] / 20), vendor, gain_db)
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
    scatter = reflectors.scatterers(labels, probe, rng)
    specular = vendor.specular * reflectors.interfaces(labels, probe, rng)
    # An interface reflects what arrives, not what is left behind it.
    arriving = np.concatenate([lost[:1], lost[:-1]])
    coherent = specular * 10 ** (-arriving / 20) + reverberation.a_lines(specular, lost, labels)
    tgc = loss.nominal_tgc(probe, vendor)
    echo = scatter * 10 ** (-lost / 20)
    parts = (
        echo,
        reverberation.trail(echo, probe, vendor.multipath),
        reverberation.bounced(scatter, lost, labels),
        reverberation.b_lines(labels, lost, tgc, rng),
        reverberation.haze(probe, vendor.reverberation, rng),
    )
    diffuse = np.sqrt(sum(part**2 for part in parts))
    uneven = 10 ** (loss.aberration(probe, vendor, rng) / 20)
    return speckle.envelope(diffuse * uneven, coherent * uneven, probe, vendor, rng)
