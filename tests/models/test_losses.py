"""Eqs. 1–3 against values worked out by hand, and softplus against the logs of the paper."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.losses import (
    adversarial_loss,
    discriminator_loss,
    joint_loss,
    reconstruction_loss,
    soft_dice_loss,
    tag_loss,
    weighted_bce,
)

# σ(0) = 1/2, σ(log 3) = 3/4, σ(−log 3) = 1/4.
REAL = tf.constant([0.0, np.log(3.0)], tf.float32)
FAKE = tf.constant([0.0, -np.log(3.0)], tf.float32)


def test_reconstruction_is_the_mean_square_of_each_example():
    x = tf.zeros((2, 1, 2, 1))
    x_hat = tf.constant([[[[1.0], [3.0]]], [[[0.0], [-2.0]]]])
    # (1 + 9) / 2 and (0 + 4) / 2
    np.testing.assert_array_equal(reconstruction_loss(x, x_hat), [5.0, 2.0])


def test_discriminator_by_hand():
    # −log ½ − log ½ = 2 log 2;  −log ¾ − log(1 − ¼) = −2 log ¾
    expected = [2 * np.log(2), -2 * np.log(0.75)]
    np.testing.assert_allclose(discriminator_loss(REAL, FAKE), expected, rtol=1e-6)


def test_generator_forms_by_hand():
    # D(fake) = ½ and ¼
    np.testing.assert_allclose(
        adversarial_loss(FAKE), [np.log(2), np.log(4)], rtol=1e-6, err_msg="−log D"
    )
    np.testing.assert_allclose(
        adversarial_loss(FAKE, "minimax"), [np.log(0.5), np.log(0.75)], rtol=1e-6
    )


def test_both_sides_play_the_same_game():
    """Minimax L_adv plus D's loss on the fake cancel: the zero-sum game of Eq. 1."""
    logits = tf.linspace(-5.0, 5.0, 11)
    on_fake = discriminator_loss(logits, logits) - tf.nn.softplus(-logits)
    np.testing.assert_allclose(adversarial_loss(logits, "minimax") + on_fake, 0, atol=1e-6)


def test_extreme_logits_stay_finite_and_exact():
    logits = tf.constant([200.0, -200.0])
    np.testing.assert_array_equal(adversarial_loss(logits), [0.0, 200.0])
    np.testing.assert_array_equal(discriminator_loss(logits, -logits), [0.0, 400.0])


def test_joint_by_hand():
    assert joint_loss(2.0, 3.0) == pytest.approx(0.99 * 2 + 0.01 * 3)
    assert joint_loss(2.0, 3.0, 0.5, 0.25) == 1.75


def test_mistakes_show_what_was_received():
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 1\) and \(2, 4, 2, 1\)"):
        reconstruction_loss(tf.zeros((2, 4, 4, 1)), tf.zeros((2, 4, 2, 1)))
    with pytest.raises(ValueError, match="form='wasserstein'"):
        adversarial_loss(FAKE, "wasserstein")


def test_hinge_by_hand():
    real, fake = tf.constant([0.0, 0.5, 3.0]), tf.constant([0.0, 0.25, -3.0])
    # max(0, 1 − real) = 1, ½, 0;  max(0, 1 + fake) = 1, 1¼, 0
    np.testing.assert_array_equal(discriminator_loss(real, fake, "hinge"), [2.0, 1.75, 0.0])
    np.testing.assert_array_equal(adversarial_loss(fake, "hinge"), [0.0, -0.25, 3.0])


def test_tag_loss_by_hand():
    """σ(log 3) = ¾: a 1 there costs log(4/3), a 0 costs log 4; absent tags cost nothing."""
    z = tf.fill((3, 3), np.float32(np.log(3.0)))
    y = tf.constant([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    present = tf.constant([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    expected = [(2 * np.log(4 / 3) + np.log(4)) / 3, np.log(4 / 3), 0.0]
    np.testing.assert_allclose(tag_loss(y, present, z), expected, rtol=1e-6)


def test_weighted_bce_by_hand():
    # σ(log 3) = ¾: a 1 there costs 2 · log(4/3), a 0 costs log 4; the mean over two outputs.
    z = tf.constant([[np.log(3.0), np.log(3.0)]], tf.float32)
    codes = tf.constant([[1.0, 0.0]])
    expected = (2 * np.log(4 / 3) + np.log(4)) / 2
    np.testing.assert_allclose(weighted_bce(codes, z), [expected], rtol=1e-6)
    np.testing.assert_allclose(weighted_bce(codes, z, 1.0), [(np.log(4 / 3) + np.log(4)) / 2])


def test_soft_dice_by_hand():
    """Two pixels, background and one class: p = ¾ where the class is, ¼ where it is not.

    (2 · ¾ + 1) / (¾ + ¼ + 1 + 1), with the smoothing of 1 above and below.
    """
    z = tf.math.log(tf.constant([[[[1.0, 3.0], [3.0, 1.0]]]]))
    loss = soft_dice_loss(tf.constant([[[1, 0]]]), z)
    np.testing.assert_allclose(loss, 1 - 2.5 / 3, rtol=1e-6)


def test_soft_dice_of_the_truth_is_zero():
    masks = tf.constant(np.random.default_rng(0).integers(0, 3, (2, 8, 8)))
    assert float(soft_dice_loss(masks, 50.0 * tf.one_hot(masks, 3))) == pytest.approx(0, abs=1e-6)
