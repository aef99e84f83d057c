"""The preprocessing graph against NumPy, SciPy and Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.preprocessing import decode_image_bytes, resize, standardise

RNG = np.random.default_rng(0)


def encoded(array, kind, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def test_standardise_is_the_z_score():
    image = RNG.integers(0, 256, (3, 16, 24, 1)).astype(np.uint8)
    flat = image.reshape(3, -1).astype(np.float64)
    expected = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    np.testing.assert_allclose(standardise(image).numpy().reshape(3, -1), expected, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 177, 255])
def test_a_constant_image_gives_zeros(level):
    # At 256×384 the float32 sum of a constant image is not exact.
    assert not standardise(np.full((1, 256, 384, 1), level, np.uint8)).numpy().any()


def test_resize_halves_like_an_antialiased_filter():
    """Pillow's bilinear reduction is the same antialiased triangle filter."""
    image = RNG.integers(0, 256, (64, 96), dtype=np.uint8)
    ours = resize(image[..., None], (32, 48)).numpy()[..., 0]
    pillow = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
    assert np.abs(ours - pillow).max() <= 1  # Pillow rounds after each axis
    assert (ours == np.round(ours)).all()


def test_resize_to_the_same_size_changes_nothing():
    image = RNG.integers(0, 256, (32, 32, 1), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, (32, 32)), image)


def test_png_gray_and_colour_as_pillow():
    gray = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
    colour = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image_bytes(encoded(gray, "PNG"))[..., 0], gray)
    np.testing.assert_array_equal(
        decode_image_bytes(encoded(colour, "PNG"))[..., 0],
        np.asarray(Image.fromarray(colour).convert("L")),
    )


def test_jpeg_gives_the_pixels_that_pillow_gives():
    contents = encoded(RNG.integers(0, 256, (40, 56), dtype=np.uint8), "JPEG", quality=85)
    np.testing.assert_array_equal(
        decode_image_bytes(contents)[..., 0], np.asarray(Image.open(io.BytesIO(contents)))
    )


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"junk", "a PNG or a JPEG"),
        (b"", "a PNG or a JPEG"),
        (encoded(np.arange(64, dtype=np.uint16).reshape(8, 8), "PNG"), "16-bit PNG"),
        (encoded(np.zeros((8, 8), np.uint8), "PNG")[:40], "PNG"),
    ],
)
def test_what_is_not_an_8_bit_image_is_refused(contents, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode_image_bytes(contents)
