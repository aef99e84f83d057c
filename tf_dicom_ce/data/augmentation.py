"""Optional augmentation of training images, a pure function of (seed, step); not in the paper."""

import tensorflow as tf

GAIN = 20.0  # gray levels; gain in dB is additive after log compression
CONTRAST = (0.8, 1.25)  # slope about mid-gray: another dynamic range
SHIFT = 0.05  # share of height and width


def augment(images: tf.Tensor, seed: int, step: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Mirrors, shifts and regrades each image by its own stateless random numbers.

    Args:
        images: Gray levels 0…255, uint8 or float, [N, H, W, 1] with static H and W.
        seed: Seed of the run.
        step: Number of the step, int64 scalar.
        positions: Position of each image in the step's batch, int64 [N].

    Returns:
        float32 [N, H, W, 1], 0…255.
    """
    height, width = images.shape[1:3]
    margins = round(height * SHIFT), round(width * SHIFT)

    def one(args):
        image, position = args
        seeds = tf.unstack(tf.random.split(tf.random.fold_in(tf.stack([seed, step]), position), 4))
        padded = tf.pad(image, [[margins[0]] * 2, [margins[1]] * 2, [0, 0]])
        image = tf.image.stateless_random_crop(padded, (height, width, 1), seeds[0])
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
        slope = tf.random.stateless_uniform([], seeds[2], *CONTRAST)
        gain = tf.random.stateless_uniform([], seeds[3], -GAIN, GAIN)
        return tf.clip_by_value((image - 127.5) * slope + 127.5 + gain, 0.0, 255.0)

    return tf.map_fn(
        one,
        (tf.cast(images, tf.float32), positions),
        fn_output_signature=tf.TensorSpec((height, width, 1), tf.float32),
    )
