"""From a head's logits to what it answers; the same graph in evaluation and in serving."""

import tensorflow as tf


def ordinal_codes(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Class k of K as k ones and K − 1 − k zeros (Appendix A.2.1): 2 of 5 is [1, 1, 0, 0].

    Args:
        labels: Classes 0…K−1, integer [N].
        classes: K.

    Returns:
        float32 [N, K − 1].
    """
    return tf.cast(tf.range(classes - 1) < tf.cast(labels, tf.int32)[:, tf.newaxis], tf.float32)


def ordinal_outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Answers of an ordinal classifier.

    The class is the number of thresholds passed, σ(z) > ½. P(k) = P(pass k) − P(pass k + 1), where
    a threshold counts as passed at most as surely as the one below it (a running minimum), so
    that no difference is negative where the outputs contradict each other.

    Args:
        logits: z, float [N, K − 1].

    Returns:
        `probabilities` float32 [N, K], rows sum to 1; `class_id` int32 [N].
    """
    class_id = tf.reduce_sum(tf.cast(logits > 0.0, tf.int32), axis=-1)
    passed = [tf.ones_like(logits[:, 0])]
    for z in tf.unstack(logits, axis=-1):
        passed.append(tf.minimum(passed[-1], tf.sigmoid(z)))
    passed = tf.stack([*passed, tf.zeros_like(passed[0])], axis=-1)
    return {"probabilities": passed[:, :-1] - passed[:, 1:], "class_id": class_id}


def categorical_outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Answers of a nominal classifier: the softmax and its largest entry, as `ordinal_outputs`."""
    return {
        "probabilities": tf.nn.softmax(logits),
        "class_id": tf.argmax(logits, axis=-1, output_type=tf.int32),
    }


def segmentation_outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Answers of a U-Net.

    Args:
        logits: float [N, H, W, C].

    Returns:
        `probabilities` float32 [N, H, W, C]; `mask` uint8 [N, H, W], the likeliest class.
    """
    return {
        "probabilities": tf.nn.softmax(logits),
        "mask": tf.cast(tf.argmax(logits, axis=-1), tf.uint8),
    }
