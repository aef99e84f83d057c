"""The paper's losses as pure functions on logits: one value per example, except soft Dice.

The sigmoid of D is only inside the losses. With D = σ(logit), −log D = softplus(−logit) and −log(1
− D) = softplus(logit), which neither overflow nor lose digits.
"""

import tensorflow as tf


def _require_same_shape(a: tf.Tensor, b: tf.Tensor) -> None:
    if not a.shape.is_compatible_with(b.shape):
        raise ValueError(f"Expected two equal shapes. Received: {a.shape} and {b.shape}.")


def reconstruction_loss(x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """L_rec = mean over the pixels of (x − x̂)² (section 3.1, the L2 distance), float [N].

    x are the true patches and x̂ the patches predicted by F, float [N, h, w, 1], z-scored. The mean
    over pixels keeps λ_rec independent of the image size.
    """
    _require_same_shape(x, x_hat)
    return tf.reduce_mean(tf.square(x - x_hat), axis=[1, 2, 3])


def discriminator_loss(
    real_logits: tf.Tensor, fake_logits: tf.Tensor, form: str = "nonsaturating"
) -> tf.Tensor:
    """−[log D(x, y) + log(1 − D(F(x̂), y))], which D minimises (Eqs. 1 and 2), float [N].

    The loss is 2 log 2 where D cannot tell the patches apart (both logits 0), or 2 in the hinge
    form.

    Args:
        real_logits: D's logits on true patches, float [N].
        fake_logits: D's logits on predicted patches, float [N].
        form: As in `adversarial_loss`; `hinge`: max(0, 1 − D(x, y)) + max(0, 1 + D(F(x̂), y)) on
            the logits themselves (Miyato & Koyama, 2018).
    """
    _require_same_shape(real_logits, fake_logits)
    if form == "hinge":
        return tf.nn.relu(1.0 - real_logits) + tf.nn.relu(1.0 + fake_logits)
    return tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits)


def adversarial_loss(fake_logits: tf.Tensor, form: str = "nonsaturating") -> tf.Tensor:
    """L_adv, which F minimises (Eqs. 1 and 2), float [N].

    Args:
        fake_logits: D's logits on predicted patches, float [N].
        form: `minimax`: log(1 − D(F(x̂), y)), the term of Eq. 1 to the letter;
            `nonsaturating`: −log D(F(x̂), y), the same fixed point with a gradient that does not
            vanish while D wins (Goodfellow et al., 2014, section 3);
            `hinge`: −D(F(x̂), y) on the logit itself (Miyato & Koyama, 2018).

    Raises:
        ValueError: `form` is none of these.
    """
    if form == "nonsaturating":
        return tf.nn.softplus(-fake_logits)
    if form == "minimax":
        return -tf.nn.softplus(fake_logits)
    if form == "hinge":
        return -fake_logits
    raise ValueError(
        f"Expected form 'nonsaturating', 'minimax' or 'hinge'. Received: form={form!r}."
    )


def tag_loss(y: tf.Tensor, present: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """AC-GAN's loss on the class (Odena et al., 2017, Eq. 3), for labels that may be unknown.

    The loss is the mean of −[y log σ(z) + (1 − y) log(1 − σ(z))] over the labels of present tags.
    As a mean, its size relative to L_adv depends neither on L nor on the number of present tags.

    Args:
        y: Encoded tags, float [N, L], 0 or 1.
        present: 1 over the span of a known tag, 0 elsewhere, float [N, L].
        logits: z, the logits of y, float [N, L].

    Returns:
        float [N]; 0 where no tag is known.
    """
    _require_same_shape(y, logits)
    _require_same_shape(y, present)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(y, logits)
    return tf.math.divide_no_nan(
        tf.reduce_sum(present * losses, axis=-1), tf.reduce_sum(present, axis=-1)
    )


def joint_loss(l_rec, l_adv, lambda_rec: float = 0.99, lambda_adv: float = 0.01):
    """L = λ_rec L_rec + λ_adv L_adv (Eq. 3; weights from section 4.3)."""
    return lambda_rec * l_rec + lambda_adv * l_adv


def weighted_bce(codes: tf.Tensor, logits: tf.Tensor, positive_weight: float = 2.0) -> tf.Tensor:
    """Mean over the outputs of −[w c log σ(z) + (1 − c) log(1 − σ(z))] (Appendix A.2.1), float [N].

    c are ordinal codes, 0 or 1, and z their logits, both float [N, K]. w is the weight of a 1
    relative to a 0.
    """
    _require_same_shape(codes, logits)
    losses = tf.nn.weighted_cross_entropy_with_logits(codes, logits, positive_weight)
    return tf.reduce_mean(losses, axis=-1)


def soft_dice_loss(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 − mean over the foreground classes of 2 Σ p g / (Σ p + Σ g) (Appendix A.2.2).

    The sums run over all pixels of the batch. A class that one image lacks is thus judged on the
    images that have it.

    Args:
        masks: Class of each pixel, integer [N, H, W]; 0 is background.
        logits: float [N, H, W, C], C classes including background; p is their softmax.

    Returns:
        float scalar, 0 where every pixel is right.
    """
    classes = logits.shape[-1]
    g = tf.one_hot(masks, classes)[..., 1:]
    p = tf.nn.softmax(logits)[..., 1:]
    overlap = tf.reduce_sum(p * g, axis=[0, 1, 2])
    size = tf.reduce_sum(p, axis=[0, 1, 2]) + tf.reduce_sum(g, axis=[0, 1, 2])
    return 1.0 - tf.reduce_mean((2.0 * overlap + 1.0) / (size + 1.0))
