"""The training step: what moves, how often, by how much."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.models.gan import centre_patch, mask_centre, paste_patch
from tf_dicom_ce.models.spectral import power_iteration
from tf_dicom_ce.training.networks import build_pretraining

CONFIG = PretrainConfig(image_size=(32, 32), width=1 / 32, batch_size=4)


def gan(labels=3, **changes):
    keras.utils.set_random_seed(0)
    return build_pretraining(dataclasses.replace(CONFIG, **changes), labels)


def tagged(x, y, known=None):
    """A batch."""
    return x, {"tags": y} | ({} if known is None else {"known": known})


def logged(step, *batch):
    """What a step logs."""
    return {name: float(value) for name, value in step(tagged(*batch)).items()}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 32, 32, 1)).astype(np.float32)
    return tf.constant(x), tf.constant(rng.integers(0, 2, (4, 3)), tf.float32)


def test_logged_values_by_numpy(batch):
    """All measures of test_step from the networks' raw outputs, in float64 NumPy."""
    model = gan(lambda_rec=0.7, lambda_adv=0.3)
    x, y = batch
    logs = logged(model.test_step, *batch)
    patch = centre_patch(x).numpy().astype(np.float64)
    patch_hat = model.paint(x).numpy()
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
    first = model.encoder.blocks[0].convolutions[0]
    mean = first.conv(mask_centre(batch[0])).numpy().mean((0, 1, 2))
    model.train_step(tagged(*batch))
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, new), new.path
    # One forward pass: moving mean 0 → 0.9 · 0 + 0.1 · mean. A second would give 0.19 · mean.
    np.testing.assert_allclose(first.norm.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-7)


def test_the_first_adam_step_is_the_learning_rate(batch):
    """Adam's first update is lr · g / (|g| + ε): ±lr wherever the gradient is not tiny."""
    model = gan(g_learning_rate=1e-3, d_learning_rate=1e-4)
    for side, rate in (("g", 1e-3), ("d", 1e-4)):
        before = [v.numpy() for v in model.variables_of(side)]
        model.train_step(tagged(*batch))
        moved = max(
            np.abs(new.numpy() - old).max()
            for old, new in zip(before, model.variables_of(side), strict=True)
        )
        assert moved == pytest.approx(rate, rel=0.02)


def test_d_is_not_trained_to_help_f(batch):
    """D's update depends on D's loss alone: λ_rec and λ_adv leave it as it is."""
    after = []
    for changes in ({}, {"lambda_rec": 0.0, "lambda_adv": 5.0}):
        model = gan(**changes)
        model.train_step(tagged(*batch))
        after.append(model.discriminator.get_weights())
    for a, b in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_tags_y_has_no_say(batch):
    x, y = batch
    model = gan(labels=0)
    logs = model.test_step(tagged(x, y))
    assert logs["p"] == 0
    assert not hasattr(model.discriminator, "w")


def test_composite_shows_d_the_whole_image(batch):
    model = gan(discriminator_input="composite")
    x, y = batch
    logs = logged(model.test_step, *batch)
    fake = paste_patch(x, model.paint(x))
    expected = tf.sigmoid(model.discriminator(fake, y)["logit"]).numpy().mean()
    assert logs["d_fake"] == pytest.approx(expected, rel=1e-5)


def test_hinge_by_numpy(batch):
    model = gan(adversarial="hinge", lambda_rec=0.0, lambda_adv=1.0)
    x, y = batch
    logs = logged(model.test_step, *batch)
    real = model.discriminator(centre_patch(x), y)["logit"].numpy()
    fake = model.discriminator(model.paint(x), y)["logit"].numpy()
    expected = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    assert logs["disc"] == pytest.approx(expected, rel=1e-5)
    assert logs["adv"] == logs["joint"] == pytest.approx(-fake.mean(), rel=1e-5)


def test_auxiliary_adds_the_loss_on_tags_to_both_sides(batch):
    x, y = batch
    present = tf.constant([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]], tf.float32)
    model = gan(conditioning="auxiliary", lambda_rec=0.0, lambda_adv=1.0)
    logs = logged(model.test_step, x, y, present)
    assert "p" not in logs
    assert not hasattr(model.discriminator, "w")
    real = {k: v.numpy() for k, v in model.discriminator(centre_patch(x), y).items()}
    painted = model.paint(x)
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
        model.train_step(tagged(x, tags, present))
        after.append(model.get_weights())
    for a, b, c in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_spectral_norm_takes_one_power_iteration_a_step_and_none_in_validation(batch):
    model = gan(spectral_norm=True)
    d = model.discriminator
    expected = [power_iteration(k.value, u.value) for k, u in zip(d.kernels, d.u, strict=True)]
    model.train_step(tagged(*batch))
    for u, wanted in zip(d.u, expected, strict=True):
        np.testing.assert_array_equal(u, wanted)
    model.test_step(tagged(*batch))
    for u, wanted in zip(d.u, expected, strict=True):
        np.testing.assert_array_equal(u, wanted)
    assert {u.path for u in d.u} <= {v.path for v in model.variables}


PRESENT = tf.constant([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]], tf.float32)
TAGS_ONLY = {"lambda_rec": 0.0, "lambda_adv": 0.0, "lambda_tags": 1.0}


def head_by_numpy(model, seen, y):
    """L_tags and accuracy from the encoder's P5, over the labels in `PRESENT`."""
    p5 = model.encoder(seen, training=False)["P5"].numpy()
    kernel, bias = model.tag_head.get_weights()
    z = p5.mean((1, 2)) @ kernel + bias
    bce = np.log1p(np.exp(z)) - y.numpy() * z  # −[y log σ(z) + (1 − y) log(1 − σ(z))]
    known = PRESENT.numpy()
    loss = np.mean((bce * known).sum(1) / np.maximum(known.sum(1), 1))
    return loss, (((z > 0) == (y.numpy() > 0)) * known).sum() / known.sum()


@pytest.mark.parametrize("use_dicom", [True, False])
def test_the_head_adds_its_loss_to_the_joint_loss(use_dicom, batch):
    x, y = batch
    model = gan(use_dicom=use_dicom, lambda_rec=0.7, lambda_adv=0.3, lambda_tags=2.0)
    assert hasattr(model.discriminator, "w") == use_dicom
    logs = logged(model.test_step, x, y, PRESENT)
    loss, accuracy = head_by_numpy(model, mask_centre(x), y)
    assert logs["tags"] == pytest.approx(loss, rel=1e-5)
    assert logs["tags_accuracy"] == pytest.approx(accuracy)
    joint = 0.7 * logs["rec"] + 0.3 * logs["adv"] + 2 * loss
    assert logs["joint"] == pytest.approx(joint, rel=1e-5)


def test_tags_only_sees_whole_images(batch):
    x, y = batch
    model = gan(**TAGS_ONLY)
    logs = logged(model.test_step, x, y, PRESENT)
    loss, accuracy = head_by_numpy(model, x, y)
    assert logs["tags"] == logs["joint"] == pytest.approx(loss, rel=1e-5)
    assert logs["tags_accuracy"] == pytest.approx(accuracy)


def test_accuracy_is_over_the_labels_of_all_batches(batch):
    """Images without a tag, and a whole batch of them, are left out of it."""
    x, y = batch
    model = gan(**TAGS_ONLY)
    expected = float(model.test_step(tagged(x, y, PRESENT))["tags_accuracy"])
    logs = model.test_step(tagged(x, y, tf.zeros_like(y)))
    assert float(logs["tags_accuracy"]) == expected > 0
    model.reset_metrics()
    assert float(model.test_step(tagged(x, y, tf.zeros_like(y)))["tags_accuracy"]) == 0


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_tags_only_trains_encoder_and_head(precision, batch):
    model = gan(**TAGS_ONLY, precision=precision)
    if precision == "float16":
        model.g_optimizer.dynamic_scale.assign(2.0**8)
    trained = [v.numpy() for v in model.trainable_variables]
    assert len(trained) == 13 * 3 + 2
    for _ in range(2):
        model.train_step(tagged(*batch, PRESENT))
    for old, new in zip(trained, model.trainable_variables, strict=True):
        assert not np.array_equal(old, new), new.path
    assert model.encoder.blocks[0].convolutions[0].norm.moving_mean.numpy().any()


def gradients(model, data, loss, variables):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model.measure(*data, training=True)[0][loss])
    return tape.gradient(total, variables)


def test_l_tags_reaches_encoder_and_head_alone(batch):
    model = gan(lambda_tags=1.0)
    data = *batch, PRESENT
    reached = [*model.encoder.trainable_variables, *model.tag_head.trainable_variables]
    assert all(np.any(g) for g in gradients(model, data, "tags", reached))
    others = [*model.decoder.trainable_variables, *model.discriminator.trainable_variables]
    assert gradients(model, data, "tags", others) == [None] * len(others)
    for loss in ("rec", "adv", "disc"):
        head = model.tag_head.trainable_variables
        assert gradients(model, data, loss, head) == [None, None]


@pytest.mark.parametrize("changes", [{}, {"spectral_norm": True}, {"conditioning": "auxiliary"}])
def test_f_and_d_start_alike_with_a_head_and_without(changes):
    one, two = gan(**changes), gan(**changes, lambda_tags=1.0)
    for network in ("encoder", "decoder", "discriminator"):
        weights = (getattr(model, network).get_weights() for model in (one, two))
        for a, b in zip(*weights, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("changes", [{"lambda_tags": 1.0, "use_dicom": False}, TAGS_ONLY])
def test_to_the_head_an_absent_tag_has_no_say(changes, batch):
    x, y = batch
    model = gan(**changes)
    known = y * PRESENT
    a, b = (
        gradients(model, (x, tags, PRESENT), "joint", model.variables_of("g"))
        for tags in (known, known + 1 - PRESENT)
    )
    for one, two in zip(a, b, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_head_needs_labels():
    with pytest.raises(ValueError, match="units"):
        gan(labels=0, lambda_tags=1.0)


@pytest.mark.parametrize(
    "changes, names",
    [
        ({}, "p g_norm d_norm"),
        ({"adversarial": "hinge", "spectral_norm": True}, "p g_norm d_norm"),
        ({"conditioning": "auxiliary"}, "tags_real tags_fake g_norm d_norm"),
        ({"precision": "float16"}, "p g_norm d_norm g_skipped d_skipped"),
        ({"lambda_tags": 1.0, "use_dicom": False}, "p tags tags_accuracy g_norm d_norm"),
    ],
)
def test_names_in_the_logs(changes, names, batch):
    model = gan(**changes)
    common = ["joint", "rec", "rec_of_mean", "adv", "disc", "d_real", "d_fake", "c_rf"]
    logs = model.train_step(tagged(*batch))
    assert sorted(logs) == sorted(common + names.split())
    only_in_training = {"g_norm", "d_norm", "g_skipped", "d_skipped"}
    assert sorted(model.test_step(tagged(*batch))) == sorted(set(logs) - only_in_training)


@pytest.mark.parametrize("precision, skipped", [("float32", []), ("float16", ["g_skipped"])])
def test_names_in_the_logs_of_tags_only(precision, skipped, batch):
    model = gan(**TAGS_ONLY, precision=precision)
    names = ["joint", "tags", "tags_accuracy"]
    logs = model.train_step(tagged(*batch, PRESENT))
    assert sorted(logs) == sorted([*names, "g_norm", *skipped])
    assert list(model.test_step(tagged(*batch, PRESENT))) == names


def test_a_plain_image_has_no_tags(batch):
    """D falls back to Eq. 1, and a head has nothing to learn from."""
    x, y = batch
    model = gan(lambda_tags=1.0)
    plain = {name: float(value) for name, value in model.test_step(x).items()}
    assert plain == logged(model.test_step, x, 0 * y, 0 * y)
    assert plain["p"] == plain["tags"] == 0
