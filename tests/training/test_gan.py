"""The training step: what moves, how often, by how much."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.data.preprocessing import centre_patch, mask_centre, paste_patch
from tf_dicom_ce.models.spectral import power_iteration
from tf_dicom_ce.training.gan import ContextEncoderGAN, measured

CONFIG = PretrainConfig(image_size=(32, 32), width=1 / 32, batch_size=4)


def gan(labels=3, **changes):
    keras.utils.set_random_seed(0)
    model = ContextEncoderGAN(dataclasses.replace(CONFIG, **changes), labels)
    model.compile()
    return model


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 32, 32, 1)).astype(np.float32)
    return tf.constant(x), tf.constant(rng.integers(0, 2, (4, 3)), tf.float32)


def test_logged_values_by_numpy(batch):
    """All measures of test_step from the networks' raw outputs, in float64 NumPy."""
    model = gan(lambda_rec=0.7, lambda_adv=0.3)
    x, y = batch
    logs = {k: float(v) for k, v in model.test_step(batch).items()}
    patch = centre_patch(x).numpy().astype(np.float64)
    patch_hat = model.context_encoder(mask_centre(x), training=False).numpy()
    real = model.discriminator(patch, y)["logit"].numpy().astype(np.float64)
    fake = model.discriminator(patch_hat, y)["logit"].numpy().astype(np.float64)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    rec = ((patch - patch_hat) ** 2).mean()
    adv = -np.log(sigmoid(fake)).mean()
    assert logs["rec"] == pytest.approx(rec, rel=1e-5)
    assert logs["rec_of_mean"] == pytest.approx((patch**2).mean(), rel=1e-5)
    assert logs["adv"] == pytest.approx(adv, rel=1e-5)
    assert logs["joint"] == pytest.approx(0.7 * rec + 0.3 * adv, rel=1e-5)
    disc = -(np.log(sigmoid(real)) + np.log(1 - sigmoid(fake))).mean()
    assert logs["disc"] == pytest.approx(disc, rel=1e-5)
    assert logs["d_real"] == pytest.approx(sigmoid(real).mean(), rel=1e-5)
    assert logs["d_fake"] == pytest.approx(sigmoid(fake).mean(), rel=1e-5)


def test_one_step_moves_every_trainable_variable_and_batchnorm_once(batch):
    model = gan()
    before = [v.numpy() for v in model.trainable_variables]
    norm = model.context_encoder.encoder.blocks[0].get_layer("bn1")
    convolution = model.context_encoder.encoder.blocks[0].get_layer("conv1")
    mean = convolution(mask_centre(batch[0])).numpy().mean((0, 1, 2))
    model.train_step(batch)
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, new), new.path
    # One forward pass: moving mean 0 → 0.9 · 0 + 0.1 · mean. A second would give 0.19 · mean.
    np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-7)


def test_the_first_adam_step_is_the_learning_rate(batch):
    """Adam's first update is lr · g / (|g| + ε): ±lr wherever the gradient is not tiny."""
    model = gan(g_learning_rate=1e-3, d_learning_rate=1e-4)
    for network, rate in ((model.context_encoder, 1e-3), (model.discriminator, 1e-4)):
        before = [v.numpy() for v in network.trainable_variables]
        model.train_step(batch)
        moved = max(
            np.abs(new.numpy() - old).max()
            for old, new in zip(before, network.trainable_variables, strict=True)
        )
        assert moved == pytest.approx(rate, rel=0.02)


def test_d_is_not_trained_to_help_f(batch):
    """D's update depends on D's loss alone: λ_rec and λ_adv leave it as it is."""
    after = []
    for changes in ({}, {"lambda_rec": 0.0, "lambda_adv": 5.0}):
        model = gan(**changes)
        model.train_step(batch)
        after.append(model.discriminator.get_weights())
    for a, b in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_tags_y_has_no_say(batch):
    x, y = batch
    model = gan(labels=0)
    logs = model.test_step((x, y))
    assert logs["p"] == 0
    assert not hasattr(model.discriminator, "w")


def test_composite_shows_d_the_whole_image(batch):
    model = gan(discriminator_input="composite")
    x, y = batch
    logs = {k: float(v) for k, v in model.test_step(batch).items()}
    fake = paste_patch(x, model.context_encoder(mask_centre(x), training=False))
    expected = tf.sigmoid(model.discriminator(fake, y)["logit"]).numpy().mean()
    assert logs["d_fake"] == pytest.approx(expected, rel=1e-5)


def test_hinge_by_numpy(batch):
    model = gan(adversarial="hinge", lambda_rec=0.0, lambda_adv=1.0)
    x, y = batch
    logs = {k: float(v) for k, v in model.test_step(batch).items()}
    real = model.discriminator(centre_patch(x), y)["logit"].numpy()
    fake = model.discriminator(model.context_encoder(mask_centre(x)), y)["logit"].numpy()
    expected = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    assert logs["disc"] == pytest.approx(expected, rel=1e-5)
    assert logs["adv"] == logs["joint"] == pytest.approx(-fake.mean(), rel=1e-5)


def test_auxiliary_adds_the_loss_on_tags_to_both_sides(batch):
    x, y = batch
    present = tf.constant([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]], tf.float32)
    model = gan(conditioning="auxiliary", lambda_rec=0.0, lambda_adv=1.0)
    logs = {k: float(v) for k, v in model.test_step((x, y, present)).items()}
    assert "p" not in logs
    assert not hasattr(model.discriminator, "w")
    real = {k: v.numpy() for k, v in model.discriminator(centre_patch(x), y).items()}
    painted = model.context_encoder(mask_centre(x))
    fake = {k: v.numpy() for k, v in model.discriminator(painted, y).items()}

    def on_tags(z):
        bce = np.log1p(np.exp(z)) - y.numpy() * z  # −[y log σ(z) + (1 − y) log(1 − σ(z))]
        known = present.numpy()
        return np.mean((bce * known).sum(1) / np.maximum(known.sum(1), 1))

    softplus = lambda z: np.log1p(np.exp(z)).mean()  # noqa: E731
    assert logs["tags_real"] == pytest.approx(on_tags(real["tags"]), rel=1e-5)
    assert logs["tags_fake"] == pytest.approx(on_tags(fake["tags"]), rel=1e-5)
    disc = softplus(-real["logit"]) + softplus(fake["logit"])
    tags = logs["tags_real"] + logs["tags_fake"]
    assert logs["disc"] == pytest.approx(disc + tags, rel=1e-5)
    assert logs["adv"] == pytest.approx(softplus(-fake["logit"]) + logs["tags_fake"], rel=1e-5)
    assert logs["joint"] == pytest.approx(logs["adv"], rel=1e-5)


def test_under_auxiliary_an_absent_tag_has_no_say(batch):
    """What y holds where `present` is 0 changes neither network."""
    x, y = batch
    present = tf.constant([[1.0, 0.0, 0.0]] * 4)
    after = []
    for tags in (y, y * present, tf.ones_like(y) * (1 - present) + y * present):
        model = gan(conditioning="auxiliary")
        model.train_step((x, tags, present))
        after.append(model.get_weights())
    for a, b, c in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_spectral_norm_takes_one_power_iteration_a_step_and_none_in_validation(batch):
    model = gan(spectral_norm=True)
    d = model.discriminator
    expected = [power_iteration(k.value, u.value) for k, u in zip(d.kernels, d.u, strict=True)]
    model.train_step(batch)
    for u, wanted in zip(d.u, expected, strict=True):
        np.testing.assert_array_equal(u, wanted)
    model.test_step(batch)
    for u, wanted in zip(d.u, expected, strict=True):
        np.testing.assert_array_equal(u, wanted)
    assert {u.path for u in d.u} <= {v.path for v in model.variables}


@pytest.mark.parametrize(
    "changes, names",
    [
        ({}, "p g_norm d_norm"),
        ({"adversarial": "hinge", "spectral_norm": True}, "p g_norm d_norm"),
        ({"conditioning": "auxiliary"}, "tags_real tags_fake g_norm d_norm"),
        ({"precision": "float16"}, "p g_norm d_norm g_skipped d_skipped"),
    ],
)
def test_names_in_the_logs(changes, names, batch):
    model = gan(**changes)
    common = ["joint", "rec", "rec_of_mean", "adv", "disc", "d_real", "d_fake", "c_rf"]
    logs = model.train_step((*batch, tf.ones_like(batch[1])))
    assert sorted(logs) == sorted(common + names.split()) == sorted(measured(model.config))
    only_in_training = {"g_norm", "d_norm", "g_skipped", "d_skipped"}
    logs = model.test_step((*batch, tf.ones_like(batch[1])))
    assert sorted(logs) == sorted(set(measured(model.config)) - only_in_training)
