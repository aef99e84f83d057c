"""What sends sound back: scatterers and interfaces, and the same again by detours.

Amplitudes of detours are as received, before TGC, against liver at the face.
"""

import numpy as np
from scipy import ndimage, signal

from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.speckle import smooth
from tf_dicom_ce.phantom.tissues import Tissue, table

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


def scatterers(labels: np.ndarray, probe: Probe, rng: np.random.Generator) -> np.ndarray:
    """Root mean square amplitude of the scatterers: 10^((echo + variation·n) / 20).

    n is smooth noise at two scales, the finer one stretched along the layers of the body wall.

    Args:
        labels: Tissue labels, uint8 [samples, beams].
        probe: The grid.
        rng: Source of the variation.

    Returns:
        Amplitude against liver, float32 [samples, beams].
    """
    coarse, fine, fibres = (
        smooth(labels.shape, _in_elements(scale, probe), rng) for scale in (_COARSE, _FINE, _FIBRES)
    )
    layered = np.isin(np.arange(len(Tissue)), _LAYERED)
    field = 0.6 * coarse + 0.8 * np.where(layered[labels], fibres, fine)
    return _amplitude(table("echo")[labels] + table("variation")[labels] * field)


def interfaces(labels: np.ndarray, probe: Probe, rng: np.random.Generator) -> np.ndarray:
    """Amplitude of specular reflection, |R| cosⁿ(incidence), uneven by 4 dB.

    R = tanh(Δ ln Z / 2) between successive samples. ln Z is smoothed lest a slanted interface
    become a staircase. cos² is the share of the axial part in the squared gradient of ln Z,
    averaged over a neighbourhood because the two faces of a thin layer cancel in the gradient.

    Args:
        labels: Tissue labels, uint8 [samples, beams].
        probe: The grid.
        rng: Source of the unevenness.

    Returns:
        1 for total reflection at normal incidence, float32 [samples, beams].
    """
    impedance = ndimage.gaussian_filter(np.log(table("impedance"))[labels], 0.7)
    along, across = np.zeros_like(impedance), np.zeros_like(impedance)
    along[1:] = np.diff(impedance, axis=0)
    across[:, 1:] = np.diff(impedance, axis=1)
    spacing = probe.depth / probe.samples / probe.beam_spacing()[:, None]
    axial = ndimage.gaussian_filter(along**2, 1.5, truncate=3)
    lateral = ndimage.gaussian_filter((across * spacing) ** 2, 1.5, truncate=3)
    cosine = np.sqrt(axial / (axial + lateral + 1e-12))
    uneven = _amplitude(4 * smooth(labels.shape, (3, 5), rng))
    return np.abs(np.tanh(along / 2)) * cosine**_DROP_OFF * uneven


def _in_elements(scale: tuple[float, float], probe: Probe) -> tuple[float, float]:
    along, across = scale
    spacing = float(np.median(probe.beam_spacing()))
    return along * probe.samples / probe.depth, across / spacing


def _amplitude(decibels: np.ndarray) -> np.ndarray:
    return np.exp(decibels * np.float32(np.log(10) / 20))


def first_air(labels: np.ndarray) -> np.ndarray:
    """First sample of lung or gas along every beam, int [beams]; the number of samples if none."""
    air = (labels == Tissue.LUNG) | (labels == Tissue.GAS)
    return np.where(air.any(axis=0), air.argmax(axis=0), len(labels))


def bounced(scatter: np.ndarray, loss: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tissue before gas seen again behind it: a mirror image beyond a diaphragm, a dirty shadow.

    With gas at sample g, sample i = n·g + x is reached after n bounces between gas and face. It
    shows the tissue at s = x (even n) or g - x (odd n), weakened by the loss n·L + l(s) or
    (n + 1)·L - l(s) of the whole path, and n times by the bounce.

    Args:
        scatter: Amplitude of scatterers, float32 [samples, beams].
        loss: Two-way loss, dB, float32 [samples, beams].
        labels: Tissue labels, uint8 [samples, beams].

    Returns:
        float32 [samples, beams], 0 before the gas.
    """
    samples = len(labels)
    gas = first_air(labels)
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

    Args:
        specular: Amplitude of specular reflection, float32 [samples, beams].
        loss: Two-way loss, dB, float32 [samples, beams].
        labels: Tissue labels, uint8 [samples, beams].

    Returns:
        float32 [samples, beams].
    """
    samples = len(labels)
    result = np.zeros_like(specular)
    gas = first_air(labels)
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
    """Streaks down from random spots of pleura over lung, that hardly fade.

    Their number is Poisson with mean 9·w²·(share of beams with pleura over lung), where w, the
    wetness of the lung, is uniform in [0, 1]: often none, sometimes many.

    Args:
        labels: Tissue labels, uint8 [samples, beams].
        loss: Two-way loss, dB, float32 [samples, beams]; a spot in shadow is dark itself.
        tgc: Gain of the TGC, dB, float32 [samples]; the streaks are even after it.
        rng: Source of number, places and strengths.

    Returns:
        float32 [samples, beams].
    """
    samples, beams = labels.shape
    result = np.zeros(labels.shape, np.float32)
    gas = first_air(labels)
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
    and the attenuation of tissue, for the sound stays there on its detour.

    Args:
        echo: Amplitude of scatterers as received, float32 [samples, beams].
        probe: The grid.
        level: Of the tail in even tissue against its echoes, dB.

    Returns:
        float32 [samples, beams].
    """
    step = probe.depth / probe.samples
    kept = np.exp(-step / _TRAIL)
    a = kept * 10 ** (-2 * probe.frequency * 0.5 * step / 10 / 10)
    b = (1 - kept) * 10 ** (level / 10)
    power = signal.lfilter(np.float32([0, b]), np.float32([1, -a]), echo**2, axis=0)
    return np.sqrt(power)


def haze(probe: Probe, level: float, rng: np.random.Generator) -> np.ndarray:
    """Reverberation between face and layers of the body wall: bands that fade with depth.

    Args:
        probe: The grid.
        level: At the face, dB.
        rng: Source of the bands.

    Returns:
        float32 [samples, beams].
    """
    bands = smooth((probe.samples, probe.beams), (1.0, probe.beams / 4), rng)
    fade = 150 * probe.ranges[:, None] / probe.depth  # dB; gone within a third of the image
    return 10 ** ((level + 4 * bands - fade) / 20)
