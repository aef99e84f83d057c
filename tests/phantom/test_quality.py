"""Quality by hand on a drawn view, and falling as the probe leaves the plane."""

import dataclasses

import numpy as np
import pytest

from tf_dicom_ce.phantom.acoustics import simulate
from tf_dicom_ce.phantom.geometry import ScanConverter
from tf_dicom_ce.phantom.quality import Quality, assess, ceiling, sample_displacement
from tf_dicom_ce.phantom.scenes import SCENES
from tf_dicom_ce.phantom.tissues import Tissue
from tf_dicom_ce.phantom.vendors import VENDOR_B

SCENE = SCENES["right upper quadrant"]


def judge(patient, rng, displacement):
    probe = dataclasses.replace(VENDOR_B.probes["SC6-1"], beams=96, samples=160)
    converter = ScanConverter(probe, 210, 268)
    labels = SCENE.make_view(patient, rng, displacement).labels(probe)
    simulation = simulate(labels, probe, VENDOR_B, rng)
    return assess(
        converter.labels(labels),
        converter.image(simulation.shadow_db),
        converter.image(simulation.image.astype(np.float32)),
        converter.spacing,
    )


def test_by_hand():
    """100×100 mm at 1 mm: liver above kidney, both clear, liver at the right gray.

    Kidney 15 cm² of 40, liver 30 cm² of 60. Facing is the kidney's border within 8 mm of liver:
    50 mm above and 8 more at either side, of 70, less what the blur takes at two corners.
    """
    labels = np.zeros((100, 100), np.uint8)
    labels[10:70, 20:70] = Tissue.LIVER
    labels[70:100, 20:70] = Tissue.CORTEX
    image = np.full((100, 100), 97, np.uint8)
    clear = np.zeros((100, 100))
    quality = assess(labels, clear, image, 1.0)
    expected = 0.35 * 15 / 40 + 0.2 * 30 / 60 + 0.3 * (50 + 2 * 8) / 70 + 0.15
    assert quality.score == pytest.approx(expected, abs=0.02)
    assert not quality.neither
    dark = assess(labels, clear + 20, image, 1.0)
    assert dark.score == 0
    assert dark.neither
    assert assess(np.zeros_like(labels), clear, image, 1.0) == Quality(0.0, True)


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
@pytest.mark.parametrize("spacing", [0.4, 1.0])
def test_the_interface_is_as_long_at_any_angle(degrees, spacing):
    """Two halves of a disc of radius 30 mm face each other over 60 mm and 8 mm at either end."""
    axis = np.arange(-50, 50, spacing)
    x, z = np.meshgrid(axis, axis)
    across = np.deg2rad(degrees)
    below = z * np.cos(across) - x * np.sin(across) >= 0
    disc = np.hypot(x, z) < 30
    labels = np.where(below, Tissue.CORTEX, Tissue.LIVER).astype(np.uint8) * disc
    quality = assess(labels, np.zeros(x.shape), np.full(x.shape, 97, np.uint8), spacing)
    organ = np.pi * 9 / 2  # cm²
    rest = 0.35 * organ / 40 + 0.2 * organ / 60 + 0.15
    assert (quality.score - rest) / 0.3 * 70 == pytest.approx(70, abs=8)


def test_quality_falls_as_the_probe_leaves_the_view():
    means, neither = [], []
    for displacement in (0.0, 0.12, 0.24, 0.5, 1.0):
        judged = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            judged.append(judge(SCENE.make_patient(rng), rng, displacement))
        means.append(np.mean([quality.score for quality in judged]))
        neither.append(np.mean([quality.neither for quality in judged]))
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.65
    assert means[-1] < 0.05
    assert neither[0] == 0
    assert neither[-1] == 1


def test_labels():
    rng = np.random.default_rng(0)
    assert Quality(0.9, True).label(rng, sigma=0) == 0
    scores = (0.1, 0.5, 0.8, 0.95)
    assert [Quality(score, False).label(rng, sigma=0) for score in scores] == [1, 2, 3, 4]


def test_ceiling():
    scores = np.full(20000, 0.38 + 0.04)  # one sigma above a threshold: 84.1 % stay
    assert ceiling(scores, np.random.default_rng(0), 0.04) == pytest.approx(0.841, abs=0.01)
    assert ceiling(scores, np.random.default_rng(0), 0.0) == 1


def test_displacements_fill_their_range():
    rng = np.random.default_rng(0)
    drawn = np.array([sample_displacement(rng) for _ in range(2000)])
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() <= 1
    assert (drawn > 0.5).mean() == pytest.approx(0.2, abs=0.03)
