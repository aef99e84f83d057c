"""Random fields, and beam forming: echoes through a point spread function to an envelope."""

import numpy as np
from scipy import fft

from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.vendors import Vendor

_SOUND_SPEED = 1.54  # mm/us
_HALF = 2 * np.sqrt(2 * np.log(2))  # full width at half height of a Gaussian of sigma 1
_LOBES_WIDTH = 6  # side lobes against the main lobe
_PAD = 12  # samples and beams on each side, more than 3 sigma of the point spread function


def smooth(
    shape: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Periodic Gaussian noise of mean 0 and variance 1: white noise through a Gaussian filter.

    Args:
        shape: (rows, columns).
        scale: Standard deviation of the filter along each axis, in elements.
        rng: Source of the white noise.

    Returns:
        float32 [rows, columns].
    """
    rows = _gaussian_spectrum(shape[0], scale[0])
    columns = _gaussian_spectrum(shape[1], scale[1])
    power = np.mean(rows**2) * np.mean(columns**2)
    spectrum = fft.rfft2(rng.standard_normal(shape, np.float32), workers=1)
    spectrum *= rows[:, None] * columns[: spectrum.shape[1]] / np.sqrt(power)
    return fft.irfft2(spectrum, shape, workers=1)


def _circular(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Circular complex Gaussian noise of mean square 1, complex64 [*shape]."""
    parts = rng.standard_normal((*shape, 2), np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


def _gaussian_spectrum(size: int, sigma: np.ndarray) -> np.ndarray:
    """Fourier transform Σ exp(-2π²σ²(ν + k)²), k = -1, 0, 1, of a sampled Gaussian.

    Takes sigma [...] in elements; returns float32 [..., size], in the order of `fftfreq`. Without
    the aliases k = ±1 it would have a kink at the highest frequency, and the filter would have
    tails that spill the bright skin into the noise at depth.
    """
    frequency = fft.fftfreq(size).astype(np.float32)
    exponent = -2 * np.pi**2 * np.square(sigma, dtype=np.float32)[..., None]
    return sum(np.exp(exponent * (frequency + alias) ** 2) for alias in (-1, 0, 1))


def beam_sigma(probe: Probe, vendor: Vendor) -> np.ndarray:
    """Lateral extent of the point spread function: standard deviation in mm, float32 [samples].

    σ = λ·F#·(0.42 + defocus·|r/depth - focus|), with F# = max(F#, r / aperture), because at large
    depth the aperture cannot grow any more. 0.42 λF# has the full width λF# at half height.
    """
    f_number = np.maximum(vendor.f_number, probe.ranges / vendor.aperture)
    away = np.abs(probe.ranges / probe.depth - vendor.focus)
    wavelength = _SOUND_SPEED / probe.frequency
    return (wavelength * f_number * (0.42 + vendor.defocus * away)).astype(np.float32)


def _axial_spectrum(size: int, probe: Probe, vendor: Vendor) -> np.ndarray:
    """Transfer function of the pulse, of energy 1: float32 [size].

    σ = cycles·λ / 2 / 2.355: half the pulse, because sound travels to the sample and back.
    """
    sigma = vendor.cycles * _SOUND_SPEED / probe.frequency / 2 / _HALF  # mm
    return _unit_energy(_gaussian_spectrum(size, np.float32(sigma * probe.samples / probe.depth)))


def _lateral_spectrum(size: int, probe: Probe, vendor: Vendor) -> np.ndarray:
    """Transfer function of main and side lobes, of energy 1 at every depth: [samples, size]."""
    sigma = beam_sigma(probe, vendor) / probe.beam_spacing()
    main = _unit_energy(_gaussian_spectrum(size, sigma))
    lobes = _unit_energy(_gaussian_spectrum(size, _LOBES_WIDTH * sigma))
    return _unit_energy(main + np.float32(10 ** (vendor.side_lobes / 20)) * lobes)


def _unit_energy(spectrum: np.ndarray) -> np.ndarray:
    return spectrum / np.sqrt(np.mean(spectrum**2, axis=-1, keepdims=True))


def envelope(
    diffuse: np.ndarray,
    coherent: np.ndarray,
    probe: Probe,
    vendor: Vendor,
    rng: np.random.Generator,
) -> np.ndarray:
    """Average over looks of |axial * (lateral * (diffuse·n + coherent·e^iφ) + noise)|.

    n is circular Gaussian noise, new for every look. So even tissue has Rayleigh speckle with mean
    / standard deviation = 1.913 √looks. The receiver's noise passes the axial filter only.

    Args:
        diffuse: Root mean square amplitude of scatterers, float32 [samples, beams].
        coherent: Amplitude of specular reflection, float32 [samples, beams].
        probe: The grid.
        vendor: Gives the point spread function and the number of looks.
        rng: Source of scatterers, phases and noise.

    Returns:
        float32 [samples, beams]; even `diffuse` of 1 gives a mean square of 1 in one look.
    """
    samples, beams = diffuse.shape
    size = [fft.next_fast_len(n + 2 * _PAD) for n in diffuse.shape]
    # Edge padding keeps wrapped-around echoes and dark borders out of the picture.
    margin = [(_PAD, total - n - _PAD) for total, n in zip(size, diffuse.shape, strict=True)]
    diffuse, coherent = (np.pad(part, margin, mode="edge") for part in (diffuse, coherent))
    lateral = np.pad(_lateral_spectrum(size[1], probe, vendor), (margin[0], (0, 0)), mode="edge")
    axial = _axial_spectrum(size[0], probe, vendor)[:, None]
    floor = np.float32(10 ** (vendor.noise / 20))

    def filtered(echo: np.ndarray, spectrum: np.ndarray, axis: int) -> np.ndarray:
        echo = fft.fft(echo, axis=axis, workers=1, overwrite_x=True)
        echo *= spectrum
        return fft.ifft(echo, axis=axis, workers=1, overwrite_x=True)

    total = np.zeros((samples, beams), np.float32)
    for _ in range(vendor.looks):
        echo = diffuse * _circular(diffuse.shape, rng)
        echo += coherent * np.exp(np.complex64(2j * np.pi * rng.random()))
        echo = filtered(echo, lateral, axis=1)
        echo += floor * _circular(echo.shape, rng)
        echo = filtered(echo, axial, axis=0)
        total += np.abs(echo[_PAD : _PAD + samples, _PAD : _PAD + beams])
    return total / vendor.looks
