"""The one preprocessing graph, used by the store, by tf.data and inside every SavedModel.

Gray levels are resized once, at full precision, and rounded back to the uint8 grid. So an image
read from the store and the same image sent to an exported model are equal bit for bit.
"""

import numpy as np
import tensorflow as tf


@tf.function(reduce_retracing=True, autograph=False)
def resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Antialiased bilinear resize, aspect ratio not kept (section 4.3).

    The triangle filter is separable and is applied along one side after the other. The other side
    then takes the place of the channels, because TensorFlow's kernel is fast along channels only.

    Args:
        image: Gray levels 0…255, uint8 or float, [..., H, W, 1] (3 or 4 dimensions).
        size: Height and width of the result, float32 [..., height, width, 1], whole numbers 0…255.
    """
    height, width = size
    shape = tf.shape(image)
    columns = tf.reshape(tf.cast(image, tf.float32), [-1, shape[-3], 1, shape[-2]])
    rows = tf.transpose(_resize_first_side(columns, height), [0, 3, 2, 1])
    image = tf.transpose(_resize_first_side(rows, width), [0, 3, 1, 2])
    image = tf.clip_by_value(tf.round(image), 0.0, 255.0)
    return tf.reshape(image, tf.concat([shape[:-3], [height, width, 1]], axis=0))


def _resize_first_side(image: tf.Tensor, length: int) -> tf.Tensor:
    """[N, H, 1, C] to [N, length, 1, C]."""
    return tf.image.resize(image, (length, 1), method="bilinear", antialias=True)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resize of classes, uint8 [H, W] to uint8 [height, width]."""
    return tf.image.resize(mask[..., np.newaxis], size, method="nearest").numpy()[..., 0]


def standardise(image: tf.Tensor) -> tf.Tensor:
    """Per-image z-score: (x − mean) / sd (section 4.3); a constant image gives zeros.

    Gray levels, float or uint8, [N, H, W, 1], become float32 of mean 0 and standard deviation 1
    over H, W and the channel. The minimum is subtracted first. This does not change the z-score,
    and makes the mean of a constant image an exact 0 in float32.
    """
    image = tf.cast(image, tf.float32)
    image -= tf.reduce_min(image, axis=[1, 2, 3], keepdims=True)
    image -= tf.reduce_mean(image, axis=[1, 2, 3], keepdims=True)
    deviation = tf.sqrt(tf.reduce_mean(tf.square(image), axis=[1, 2, 3], keepdims=True))
    return image / tf.maximum(deviation, 1e-6)


def decode_image_bytes(contents: tf.Tensor) -> tf.Tensor:
    """Decodes one PNG or JPEG, the file's bytes, to gray levels, uint8 [H, W, 1].

    Colour becomes luma as in `tf_dicom_ce.dicom.reader`. JPEG uses the integer-accurate inverse
    DCT, which gives the pixels that other decoders give.

    Raises:
        tf.errors.InvalidArgumentError: Neither PNG nor JPEG, damaged, or a 16-bit PNG (TensorFlow
            would silently reduce it to 8 bits).
    """
    header = tf.strings.join([tf.strings.substr(contents, 0, 25), b"\0" * 25])
    is_jpeg = tf.io.is_jpeg(contents)
    is_png = tf.equal(tf.strings.substr(header, 0, 8), b"\x89PNG\r\n\x1a\n")
    sixteen_bit = is_png & tf.equal(tf.strings.substr(header, 24, 1), b"\x10")  # IHDR bit depth
    with tf.control_dependencies(
        [
            tf.debugging.Assert(is_jpeg | is_png, ["expected the bytes of a PNG or a JPEG"]),
            tf.debugging.Assert(~sixteen_bit, ["expected 8 bits a sample, received a 16-bit PNG"]),
        ]
    ):
        contents = tf.identity(contents)
    return tf.cond(
        is_jpeg,
        lambda: tf.io.decode_jpeg(contents, channels=1, dct_method="INTEGER_ACCURATE"),
        lambda: _luma(tf.io.decode_png(contents, channels=3)),
    )


def _luma(rgb: tf.Tensor) -> tf.Tensor:
    """Y = 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point (ITU-R BT.601), uint8 [H, W, 1]."""
    weights = tf.constant([19595, 38470, 7471], tf.int32)
    y = tf.reduce_sum(tf.cast(rgb, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((y + 32768) // 65536, tf.uint8)
