"""What sends sound back: scatterers within tissues, and the interfaces between them."""

import numpy as np
from scipy import ndimage

from tf_dicom_ce.phantom import noise
from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.tissues import Tissue, table

_LAYERED = (Tissue.SKIN, Tissue.FAT, Tissue.MUSCLE)  # septa and fibres run along the skin
_COARSE = (7.0, 7.0)  # scales of the variation of a tissue, mm along and across beams
_FINE = (2.0, 2.0)
_FIBRES = (0.4, 4.0)
_DROP_OFF = 4  # power of the cosine of incidence


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
        noise.smooth(labels.shape, _in_elements(scale, probe), rng)
        for scale in (_COARSE, _FINE, _FIBRES)
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
    uneven = _amplitude(4 * noise.smooth(labels.shape, (3, 5), rng))
    return np.abs(np.tanh(along / 2)) * cosine**_DROP_OFF * uneven


def _in_elements(scale: tuple[float, float], probe: Probe) -> tuple[float, float]:
    along, across = scale
    spacing = float(np.median(probe.beam_spacing()))
    return along * probe.samples / probe.depth, across / spacing


def _amplitude(decibels: np.ndarray) -> np.ndarray:
    return np.exp(decibels * np.float32(np.log(10) / 20))
