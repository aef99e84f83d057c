"""Is it an image that a model can decode? Asked before it joins a batch with those of others."""

import struct

import tensorflow as tf

from tf_dicom_ce.preprocessing import decode_image_bytes
from tf_dicom_ce.serving.errors import RequestError

_MOST_PIXELS = 1 << 22  # decoding takes some 50 bytes a pixel
# A decoder may pass over chunks before IHDR; then the size it sees is not the one seen here.
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_MOST_SCANS = 100  # of a progressive JPEG; each costs time for every pixel


def check_image(contents: bytes) -> None:
    """Decodes an image as every model of this package does, and forgets it.

    Args:
        contents: A PNG or JPEG file.

    Raises:
        RequestError: It cannot be decoded, or is too large (400).
    """
    try:
        height, width = _size(contents)
        if height * width > _MOST_PIXELS or contents.count(b"\xff\xda") > _MOST_SCANS:
            raise RequestError(
                400,
                f"an image of {width} x {height} pixels: at most {_MOST_PIXELS} pixels "
                f"and {_MOST_SCANS} JPEG scans can be served",
            )
        _decode(tf.constant(contents))
    except (tf.errors.InvalidArgumentError, struct.error):
        raise RequestError(
            400, "the image cannot be decoded: expected a whole PNG or JPEG, 8 bits a sample"
        ) from None


def _size(contents: bytes) -> tuple[int, int]:
    """Height and width by the header, as the decoder will read them."""
    if contents.startswith(b"\xff\xd8\xff"):
        return tuple(tf.io.extract_jpeg_shape(contents).numpy()[:2].tolist())
    if not contents.startswith(_PNG):
        raise struct.error("neither JPEG nor PNG")
    width, height = struct.unpack_from(">II", contents, len(_PNG))
    return height, width


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _decode(contents):
    return decode_image_bytes(contents)
