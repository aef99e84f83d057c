"""Random fields, each drawn from the generator that it is given."""

import numpy as np
from scipy import fft


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
    rows = gaussian_spectrum(shape[0], scale[0])
    columns = gaussian_spectrum(shape[1], scale[1])
    power = np.mean(rows**2) * np.mean(columns**2)
    spectrum = fft.rfft2(rng.standard_normal(shape, np.float32), workers=1)
    spectrum *= rows[:, None] * columns[: spectrum.shape[1]] / np.sqrt(power)
    return fft.irfft2(spectrum, shape, workers=1)


def circular(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Circular complex Gaussian noise of mean square 1, complex64 [*shape]."""
    parts = rng.standard_normal((*shape, 2), np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


def gaussian_spectrum(size: int, sigma: np.ndarray) -> np.ndarray:
    """Fourier transform Σ exp(-2π²σ²(ν + k)²), k = -1, 0, 1, of a sampled Gaussian.

    Without the aliases the spectrum would have a kink at its highest frequency, and the filter
    tails that spill the bright skin into the noise of the depth.

    Args:
        size: Elements, the length of the transform.
        sigma: Standard deviations in elements, float32 [...].

    Returns:
        float32 [..., size], in the order of `fftfreq`.
    """
    frequency = fft.fftfreq(size).astype(np.float32)
    exponent = -2 * np.pi**2 * np.square(sigma, dtype=np.float32)[..., None]
    return sum(np.exp(exponent * (frequency + alias) ** 2) for alias in (-1, 0, 1))
