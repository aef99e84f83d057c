"""bfloat16 and float16 beside float32: what computes in which, what a skipped step leaves."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.saved_model.writing import in_float32
from tf_dicom_ce.training.networks import build_pretraining

CONFIG = PretrainConfig(
    image_size=(32, 32), width=1 / 16, batch_size=8, g_learning_rate=3e-3, d_learning_rate=1e-4
)
HALVES = ("bfloat16", "float16")


def gan(precision, **changes):
    keras.utils.set_random_seed(0)
    return build_pretraining(dataclasses.replace(CONFIG, precision=precision, **changes), 3)


def tagged(x, y):
    return x, {"tags": y}


def waves(count, seed):
    """Noisy plane waves of random direction and phase, z-scored; the tags say the direction."""
    rng = np.random.default_rng(seed)
    angle, phase = rng.uniform(0, np.pi, count), rng.uniform(0, 2 * np.pi, count)
    i, j = np.mgrid[:32, :32] * 0.4
    along = np.cos(angle)[:, None, None] * i + np.sin(angle)[:, None, None] * j
    x = np.sin(along + phase[:, None, None])[..., None]
    x += 0.6 * rng.normal(size=x.shape)  # of the variance 0.36 / 0.86 is beyond prediction
    x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    y = np.eye(3)[(angle / np.pi * 3).astype(int)]
    return tf.constant(x, tf.float32), tf.constant(y, tf.float32)


@pytest.mark.parametrize("precision", HALVES)
def test_convolutions_compute_in_half_and_all_else_is_float32(precision):
    model = gan(precision, spectral_norm=True, conditioning="auxiliary")
    assert keras.config.dtype_policy().name == "float32"
    assert {v.dtype for v in model.variables if "seed" not in v.path} == {"float32"}
    x, y = waves(2, 0)
    assert {str(s.dtype.name) for s in model.encoder(x).values()} == {precision}
    assert model.discriminator.discriminator.d_tilde[0](x[:, :16, :16]).dtype == precision
    assert model.paint(x).dtype == tf.float32
    assert {out.dtype for out in model.discriminator(x, y).values()} == {tf.float32}
    values, _ = model.measure(x, y, tf.ones_like(y), training=True)
    assert {value.dtype for value in values.values()} == {tf.float32}


@pytest.mark.parametrize("precision", HALVES)
def test_the_exported_encoder_is_float32_with_the_same_weights(precision, tmp_path):
    encoder = gan(precision).encoder
    exported = in_float32(encoder)
    x, _ = waves(2, 0)
    same = gan("float32").encoder(x)["P5"]  # the same seed, the same weights
    np.testing.assert_array_equal(exported(x)["P5"], same)
    np.testing.assert_allclose(np.float32(encoder(x)["P5"]), same, atol=0.05)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(loaded(x)["P5"], encoder(x)["P5"])


def test_an_infinite_gradient_skips_its_network_alone():
    """A loss scale of 2^120 makes F's float16 gradient infinite; D's is its own."""
    model = gan("float16")
    model.g_optimizer.dynamic_scale.assign(2.0**120)
    before = [v.numpy() for v in model.variables_of("g")]
    d_before = model.discriminator.get_weights()
    logs = {k: float(v) for k, v in model.train_step(tagged(*waves(8, 0))).items()}
    for old, new in zip(before, model.variables_of("g"), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(d_before[0], model.discriminator.get_weights()[0])
    assert float(model.g_optimizer.dynamic_scale) == 2.0**119
    assert (logs["g_skipped"], logs["d_skipped"], logs["g_norm"]) == (1, 0, 0)
    assert np.isfinite(list(logs.values())).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_an_overflow_in_the_forward_pass_leaves_no_trace():
    model = gan("float16")
    x, y = waves(8, 0)
    before = model.get_weights()
    model.train_step(tagged(1e6 * x, y))  # beyond float16's 65504
    assert float(model.trackers["g_skipped"].result()) == 1
    assert float(model.trackers["d_skipped"].result()) == 1
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_norms_are_those_of_the_unscaled_gradient():
    expected = gan("float32").train_step(tagged(*waves(8, 0)))
    model = gan("float16")
    model.g_optimizer.dynamic_scale.assign(2.0**8)  # at the first scale, 2^15, F's overflows
    logs = model.train_step(tagged(*waves(8, 0)))
    for name in ("g_norm", "d_norm"):
        assert float(logs[name]) == pytest.approx(float(expected[name]), rel=0.2)


def learn(model, steps):
    train, step = waves(1024, 1), tf.function(model.train_step, autograph=False)
    for k in steps:
        rows = np.random.default_rng(k).choice(1024, 16, replace=False)
        step(tagged(*(tf.gather(tensor, rows) for tensor in train)))


def validation_rec(model):
    model.reset_metrics()
    return float(model.test_step(tagged(*waves(64, 2)))["rec"])


@pytest.mark.slow
def test_half_precision_learns_what_float32_learns():
    """On from where L_rec falls fastest; painting the mean gives 1."""
    parts = {"width": 1 / 8, "spectral_norm": True}
    begun = gan("float32", **parts)
    learn(begun, range(100))
    found = {}
    for precision in ("float32", *HALVES):
        model = gan(precision, **parts)
        model.set_weights(begun.get_weights())
        model.g_optimizer.learning_rate = 1e-3
        learn(model, range(100, 124))
        found[precision] = validation_rec(model)
    assert found["float32"] < validation_rec(begun) - 0.1
    for precision in HALVES:
        assert found[precision] == pytest.approx(found["float32"], abs=0.02)
