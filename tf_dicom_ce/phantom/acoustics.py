"""Simulates a scanner's picture of a tissue map, on the polar grid.

In all functions, `labels` are `Tissue` labels, uint8 [samples, beams]. `loss` is the loss on the
way to a sample and back, dB, float32 [samples, beams]. An amplitude is as received before TGC,
relative to mean liver at the face, float32 [samples, beams]. `rng` is the only source of
randomness.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tf_dicom_ce.phantom import speckle
from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.tissues import Tissue, table
from tf_dicom_ce.phantom.vendors import Vendor

_POOR_CONTACT = 0.25  # of all images
_LIFTED = 0.15  # of the face, at most, and at one end of it
_LAYERED = (Tissue.SKIN, Tissue.FAT, Tissue.MUSCLE)  # septa and fibres run along the skin
_COARSE = (7.0, 7.0)  # scales of the variation of a tissue, mm along and across beams
_FINE = (2.0, 2.0)
_FIBRES = (0.4, 4.0)
_DROP_OFF = 4  # power of the cosine of incidence
_LUNG = 10 ** (-7 / 20)  # a smooth reflector
_BOWEL = 10 ** (-22 / 20)  # a rough one
_FACE = 10 ** (-8 / 20)  # reflection by the transducer
_REPEATS = 6
_TRAIL = 12  # mm within which a tail fades to 1/e
_B_LINES = 9  # mean number for the wettest lung across the whole face


class Simulation(NamedTuple):
    """A frame before scan conversion.

    `shadow_db` is the loss by tissue, interfaces and poor contact that the nominal TGC does not
    compensate: positive in shadow, negative in enhancement.
    """

    image: np.ndarray  # gray levels, uint8 [samples, beams]
    shadow_db: np.ndarray  # float32 [samples, beams]


def simulate(
    labels: np.ndarray,
    probe: Probe,
    vendor: Vendor,
    rng: np.random.Generator,
    gain_db: float = 0.0,
) -> Simulation:
    """Simulates one frame; the same state of `rng` gives the same bytes.

    Args:
        labels: Tissue on the probe's grid.
        probe: The grid.
        vendor: Physics and post-processing.
        rng: Source of all randomness.
        gain_db: The operator's gain, relative to one that shows liver mid-gray.

    Raises:
        ValueError: If `labels` is not on the probe's grid.
    """
    if labels.shape != (probe.samples, probe.beams):
        raise ValueError(f"labels {labels.shape} on a grid of {probe.samples} × {probe.beams}")
    loss = two_way_loss(labels, probe) + _contact_loss(probe.beams, rng)
    tgc = nominal_tgc(probe, vendor)
    envelope = received(labels, loss, probe, vendor, rng)
    knobs = vendor.sliders * rng.standard_normal(8)  # dB that the operator's sliders add
    sliders = np.interp(probe.ranges, np.linspace(0, probe.depth, 8), knobs)
    gain = tgc + sliders.astype(np.float32)
    return Simulation(
        _gray(envelope * 10 ** (gain[:, None] / 20), vendor, gain_db), loss - tgc[:, None]
    )


def received(
    labels: np.ndarray, loss: np.ndarray, probe: Probe, vendor: Vendor, rng: np.random.Generator
) -> np.ndarray:
    """The envelope of all echoes: an amplitude."""
    scatter = scatterers(labels, probe, rng)
    specular = vendor.specular * interfaces(labels, probe, rng)
    # An interface reflects the sound that arrives, not the sound that passes.
    arriving = np.concatenate([loss[:1], loss[:-1]])
    coherent = specular * 10 ** (-arriving / 20) + a_lines(specular, loss, labels)
    echo = scatter * 10 ** (-loss / 20)
    parts = (
        echo,
        trail(echo, probe, vendor.multipath),
        bounced(scatter, loss, labels),
        b_lines(labels, loss, nominal_tgc(probe, vendor), rng),
        _haze(probe, vendor.reverberation, rng),
    )
    diffuse = np.sqrt(sum(part**2 for part in parts))
    # The uneven body wall: gain of every beam, dB.
    aberration = vendor.aberration * speckle.smooth((1, probe.beams), (0, 2.5), rng)[0]
    uneven = 10 ** (aberration / 20)
    return speckle.envelope(diffuse * uneven, coherent * uneven, probe, vendor, rng)


def two_way_loss(labels: np.ndarray, probe: Probe) -> np.ndarray:
    """Loss at the middle of the samples: 2f ∫α dr - Σ 20 log10(1 - R²).

    R = (Z' - Z) / (Z' + Z) at every change of impedance; 1 - R² is the amplitude that passes
    forth and back. f is the probe's frequency.
    """
    step = probe.depth / probe.samples / 10  # cm
    absorbed = 2 * probe.frequency * step * table("attenuation")[labels]
    impedance = table("impedance")[labels]
    reflection = np.diff(impedance, axis=0) / (impedance[1:] + impedance[:-1])
    loss = np.cumsum(absorbed, axis=0) - absorbed / 2
    loss[1:] -= np.cumsum(20 * np.log10(1 - reflection**2), axis=0)
    return loss.astype(np.float32)


def _contact_loss(beams: int, rng: np.random.Generator) -> np.ndarray:
    """Loss by an end of the face lifted off the skin, in some images: dB, float32 [beams]."""
    poor, left = rng.random(2) < (_POOR_CONTACT, 0.5)
    extent, loss = rng.uniform((0.03, 6), (_LIFTED, 30))
    across = (np.arange(beams, dtype=np.float32) + 0.5) / beams
    lifted = 1 / (1 + np.exp((across - extent) / 0.015))
    return (poor * loss * (lifted if left else lifted[::-1])).astype(np.float32)


def nominal_tgc(probe: Probe, vendor: Vendor) -> np.ndarray:
    """Gain 2f·α·r that compensates the attenuation α of even tissue: dB, float32 [samples]."""
    return (2 * probe.frequency * vendor.tgc * probe.ranges / 10).astype(np.float32)


def _gray(envelope: np.ndarray, vendor: Vendor, gain: float) -> np.ndarray:
    """Log compression, edge enhancement, gray map: uint8 [samples, beams].

    x = 1 + (20 log10(envelope) + gain - white) / dynamic range, then x + edge·(x - blurred x),
    clipped to [0, 1], then (1 - c)·x + c·x²(3 - 2x) with the contrast c.
    """
    level = 20 * np.log10(np.maximum(envelope, np.float32(1e-9)))
    x = 1 + (level + np.float32(gain - vendor.white)) / np.float32(vendor.dynamic_range)
    x = np.clip(x, -0.1, 1.1)  # the logarithm's deep holes must not enhance their surroundings
    x += vendor.edge * (x - ndimage.gaussian_filter(x, 1.5, truncate=2.5))
    x = np.clip(x, 0, 1)
    x = x + vendor.contrast * (x * x * (3 - 2 * x) - x)
    return np.rint(255 * x).astype(np.uint8)


# Sources of echoes: scatterers and interfaces, directly and by detours.


def scatterers(labels: np.ndarray, probe: Probe, rng: np.random.Generator) -> np.ndarray:
    """Root mean square amplitude of the scatterers, without loss: 10^((echo + variation·n) / 20).

    n is smooth noise at two scales, the finer one stretched along the layers of the body wall.
    """
    spacing = float(np.median(probe.beam_spacing()))
    coarse, fine, fibres = (
        speckle.smooth(labels.shape, (along * probe.samples / probe.depth, across / spacing), rng)
        for along, across in (_COARSE, _FINE, _FIBRES)
    )
    layered = np.isin(np.arange(len(Tissue)), _LAYERED)
    field = 0.6 * coarse + 0.8 * np.where(layered[labels], fibres, fine)
    return _amplitude(table("echo")[labels] + table("variation")[labels] * field)


def interfaces(labels: np.ndarray, probe: Probe, rng: np.random.Generator) -> np.ndarray:
    """Specular reflection |R| cosⁿ(incidence), uneven by 4 dB; 1 is total, at normal incidence.

    R = tanh(Δ ln Z / 2) between successive samples. ln Z is smoothed so that a slanted interface
    does not become a staircase. cos² is the share of the axial part in the squared gradient of ln
    Z, averaged over a neighbourhood because the two faces of a thin layer cancel in the gradient.
    """
    impedance = ndimage.gaussian_filter(np.log(table("impedance"))[labels], 0.7)
    along, across = np.zeros_like(impedance), np.zeros_like(impedance)
    along[1:] = np.diff(impedance, axis=0)
    across[:, 1:] = np.diff(impedance, axis=1)
    spacing = probe.depth / probe.samples / probe.beam_spacing()[:, None]
    axial = ndimage.gaussian_filter(along**2, 1.5, truncate=3)
    lateral = ndimage.gaussian_filter((across * spacing) ** 2, 1.5, truncate=3)
    cosine = np.sqrt(axial / (axial + lateral + 1e-12))
    uneven = _amplitude(4 * speckle.smooth(labels.shape, (3, 5), rng))
    return np.abs(np.tanh(along / 2)) * cosine**_DROP_OFF * uneven


def _amplitude(decibels: np.ndarray) -> np.ndarray:
    return np.exp(decibels * np.float32(np.log(10) / 20))


def _first_air(labels: np.ndarray) -> np.ndarray:
    """First sample of lung or gas along every beam, int [beams]; the number of samples if none."""
    air = (labels == Tissue.LUNG) | (labels == Tissue.GAS)
    return np.where(air.any(axis=0), air.argmax(axis=0), len(labels))


def bounced(scatter: np.ndarray, loss: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tissue before gas seen again behind it: a mirror image beyond a diaphragm, a dirty shadow.

    With gas at sample g, sample i = n·g + x is reached after n bounces between gas and face. It
    shows the tissue at s = x (even n) or g - x (odd n), weakened by the loss n·L + l(s) or
    (n + 1)·L - l(s) of the whole path, and n times by the bounce.
    """
    samples = len(labels)
    gas = _first_air(labels)
    result = np.zeros_like(scatter)
    behind = np.nonzero((gas > 1) & (gas < samples))[0]
    if not len(behind):
        return result
    gas = gas[behind]
    bounce = np.where(labels[gas, behind] == Tissue.LUNG, _LUNG, _BOWEL)
    times, rest = np.divmod(np.arange(samples)[:, None], gas)
    odd = times % 2
    source = np.where(odd, gas - 1 - rest, rest)
    path = (times + odd) * loss[gas - 1, behind] + (1 - 2 * odd) * loss[source, behind]
    echo = scatter[source, behind] * bounce**times * 10 ** (-path / 20)
    result[:, behind] = np.where(times > 0, echo, 0)
    return result


def a_lines(specular: np.ndarray, loss: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The echo of pleura or gas repeated at multiples of its depth, each weaker by the face.

    Not beyond a diaphragm, too far and too curved to send the wave back to the face.
    """
    samples = len(labels)
    result = np.zeros_like(specular)
    gas = _first_air(labels)
    beam = np.nonzero((gas > 3) & (gas < samples // 2))[0]
    beam = beam[labels[gas[beam] - 1, beam] != Tissue.DIAPHRAGM]
    if not len(beam):
        return result
    echo = specular[gas[beam][:, None] + np.arange(-2, 3), beam[:, None]].sum(axis=1)
    lost = loss[gas[beam] - 1, beam]
    # A step of one sample would be one of several in the repeats.
    depth = ndimage.gaussian_filter1d(gas[beam].astype(np.float32), 3)
    row = np.arange(samples, dtype=np.float32)[:, None]
    for times in range(2, _REPEATS + 1):
        line = np.exp(-0.5 * (row - times * depth) ** 2) * 0.4  # sum 1, as of an interface
        result[:, beam] += line * echo * _FACE ** (times - 1) * 10 ** (-times * lost / 20)
    return result


def b_lines(
    labels: np.ndarray, loss: np.ndarray, tgc: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Streaks down from random spots of pleura over lung; they hardly fade and are even after TGC.

    Their number is Poisson with mean 9·w²·(share of beams with pleura over lung), where w, the
    wetness of the lung, is uniform in [0, 1]: often none, sometimes many. A spot in shadow is dark.
    `tgc` is the gain of the TGC, dB, float32 [samples].
    """
    samples, beams = labels.shape
    result = np.zeros(labels.shape, np.float32)
    gas = _first_air(labels)
    inside = np.nonzero((gas > 0) & (gas < samples))[0]
    start = gas[inside]
    pleura = (labels[start, inside] == Tissue.LUNG) & (labels[start - 1, inside] == Tissue.PLEURA)
    wetness, spots = rng.random(), inside[pleura]
    number = rng.poisson(_B_LINES * wetness**2 * len(spots) / beams)
    row, column = np.arange(samples)[:, None], np.arange(beams)
    for _ in range(number):
        at = rng.choice(spots)
        width, level, fade = rng.uniform((0.8, 2, 0), (2.5, 9, 12))
        past = np.maximum(row - gas[at], 0) / samples
        streak = np.exp(-0.5 * ((column - at) / (width * (1 + past))) ** 2)
        shadow = loss[gas[at] - 1, at] - tgc[gas[at] - 1]
        level = level - shadow - fade * past - tgc[:, None]
        result += np.where(row >= gas[at], streak * 10 ** (level / 20), 0).astype(np.float32)
    return result


def trail(echo: np.ndarray, probe: Probe, level: float) -> np.ndarray:
    """Multiple scattering: every echo is followed by a tail, so that fluid is gray at its front.

    Power t[i] = a·t[i - 1] + (1 - e^(-step/L))·10^(level/10)·echo[i - 1]², where a is e^(-step/L)
    and the attenuation of tissue, because the sound stays in tissue on its detour. `level` is the
    level of the tail in even tissue relative to its echoes, dB.
    """
    step = probe.depth / probe.samples
    kept = np.exp(-step / _TRAIL)
    a = kept * 10 ** (-2 * probe.frequency * 0.5 * step / 10 / 10)
    b = (1 - kept) * 10 ** (level / 10)
    from scipy import signal  # takes a second

    return np.sqrt(signal.lfilter(np.float32([0, b]), np.float32([1, -a]), echo**2, axis=0))


def _haze(probe: Probe, level: float, rng: np.random.Generator) -> np.ndarray:
    """Reverberation between face and body wall: bands that fade with depth, `level` dB at first."""
    bands = speckle.smooth((probe.samples, probe.beams), (1.0, probe.beams / 4), rng)
    fade = 150 * probe.ranges[:, None] / probe.depth  # dB; gone within a third of the image
    return 10 ** ((level + 4 * bands - fade) / 20)
