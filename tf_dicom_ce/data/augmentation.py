"""Optional augmentation of training images, a pure function of (seed, step); not in the paper."""

import tensorflow as tf

GAIN = 20.0  # gray levels; after log compression, a gain in dB is added
CONTRAST = (0.8, 1.25)  # slope about mid-gray: another dynamic range
SHIFT = 0.05  # share of height and width


def augment(
    images: tf.Tensor,
    seed: int,
    step: tf.Tensor,
    positions: tf.Tensor,
    masks: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Mirrors, shifts and regrades (gain, contrast) each image by its own stateless random numbers.

    Args:
        images: Gray levels 0…255, uint8 or float, [N, H, W, 1] with static H and W.
        seed: Seed of the run.
        step: Number of the step, int64 scalar.
        positions: Position of each image in the step's batch, int64 [N].
        masks: Classes, uint8 [N, H, W], mirrored and shifted like the images; pixels from beyond
            the edge are 0.

    Returns:
        Images, float32 [N, H, W, 1], 0…255; masks, or None.
    """
    height, width = images.shape[1:3]
    margins = round(height * SHIFT), round(width * SHIFT)
    layers = [images] if masks is None else [images, masks[..., tf.newaxis]]
    stack = tf.concat([tf.cast(layer, tf.float32) for layer in layers], axis=-1)

    def one(args):
        stack, position = args
        seeds = tf.unstack(tf.random.split(tf.random.fold_in(tf.stack([seed, step]), position), 4))
        padded = tf.pad(stack, [[margins[0]] * 2, [margins[1]] * 2, [0, 0]])
        stack = tf.image.stateless_random_crop(padded, (height, width, len(layers)), seeds[0])
        stack = tf.image.stateless_random_flip_left_right(stack, seeds[1])
        image, mask = stack[..., :1], stack[..., 1:]
        slope = tf.random.stateless_uniform([], seeds[2], *CONTRAST)
        gain = tf.random.stateless_uniform([], seeds[3], -GAIN, GAIN)
        image = tf.clip_by_value((image - 127.5) * slope + 127.5 + gain, 0.0, 255.0)
        return tf.concat([image, mask], axis=-1)

    stack = tf.map_fn(
        one,
        (stack, positions),
        fn_output_signature=tf.TensorSpec((height, width, len(layers)), tf.float32),
    )
    return stack[..., :1], None if masks is None else tf.cast(stack[..., 1], masks.dtype)
