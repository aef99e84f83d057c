"""Distillation: the loss by NumPy; the teacher stays; the encoder comes near to it."""

import keras
import numpy as np
import pytest

from tf_dicom_ce.models.distillation import Distiller
from tf_dicom_ce.models.encoder import VGG16Encoder

IMAGES = np.random.default_rng(0).normal(size=(8, 32, 64, 1)).astype(np.float32)


@pytest.fixture
def distiller():
    keras.utils.set_random_seed(0)
    model = Distiller(VGG16Encoder(1 / 32), VGG16Encoder(1 / 16, name="teacher"))
    model.build((None, 32, 64, 1))
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return model


def test_the_loss(distiller):
    distiller.standardise([IMAGES[:3], IMAGES[3:]])
    ours = {k: v.numpy() for k, v in distiller.encoder(IMAGES).items()}
    theirs = {k: v.numpy() for k, v in distiller.teacher(IMAGES).items()}
    expected = []
    for k in ("P2", "P3", "P4", "P5"):
        kernel, bias = distiller.projections[k].get_weights()
        seen = ours[k] @ kernel[0, 0] + bias
        mean, sd = theirs[k].mean((0, 1, 2)), theirs[k].std((0, 1, 2))
        taught = (theirs[k] - mean) / np.maximum(sd, 1e-6)
        expected.append(((seen - taught) ** 2).mean((1, 2, 3)))
    values, _ = distiller.measure(IMAGES, None, None, training=False)
    np.testing.assert_allclose(values["teacher"], np.mean(expected, axis=0), rtol=1e-4)
    # The answer 0 is the mean: its loss is the variance, 1 in every channel that varies.
    for layer in distiller.projections.values():
        layer.set_weights([0 * w for w in layer.get_weights()])
    values, _ = distiller.measure(IMAGES, None, None, training=False)
    varies = np.mean([(theirs[k].std((0, 1, 2)) > 1e-6).mean() for k in ("P2", "P3", "P4", "P5")])
    assert np.mean(values["teacher"]) == pytest.approx(varies, rel=1e-3)


def test_the_encoder_learns_and_the_teacher_stays(distiller):
    distiller.standardise([IMAGES])
    before = [v.numpy() for v in distiller.teacher.variables]
    history = distiller.fit(IMAGES, batch_size=4, epochs=15, verbose=0).history
    assert history["teacher"][-1] < 0.6 * history["teacher"][0]
    for a, b in zip(before, distiller.teacher.variables, strict=True):
        np.testing.assert_array_equal(a, b)
