"""Outlines, legends, and masks in their place in the file."""

import io

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.masks import colour, outline
from tf_dicom_ce.results.files import overlay
from tf_dicom_ce.results.source import SourceImage, open_image

CLASSES = ("background", "liver", "kidney")


def test_borders_only_in_the_colour_of_their_class():
    image, mask = np.full((6, 7), 90, np.uint8), np.zeros((6, 7), np.uint8)
    mask[1:5, 1:6] = 2
    expected = np.full((6, 7, 3), 90, np.uint8)
    expected[1:5, 1:6] = colour(2)
    expected[2:4, 2:5] = 90  # inside
    np.testing.assert_array_equal(outline(image, mask), expected)


def test_colours_differ_and_come_round():
    assert len({colour(label) for label in range(1, 6)}) == 5
    assert colour(6) == colour(1)


def test_goes_back_to_its_place():
    source = SourceImage(None, 0, 1, (5, 6), Region(1, 2, 2, 4), np.zeros((2, 4), np.uint8))
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1, 0, 2, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    mask = np.uint8([[1, 1, 2, 2], [1, 0, 2, 0]])
    np.testing.assert_array_equal(source.in_file(mask), expected)
    for other in ((1, 4), (2, 1), (1, 1), (4, 2)):  # some of which NumPy would spread out
        with pytest.raises(ValueError, match=r"the image has \(2, 4\)"):
            source.in_file(np.ones(other, np.uint8))


def test_a_picture_of_the_image_with_a_legend_below(write, ramp):
    mask = np.zeros((20, 30), np.uint8)
    mask[4:16, 6:24] = 1
    picture = np.asarray(Image.open(io.BytesIO(overlay(ramp, mask, CLASSES))))
    assert picture.shape == (20 + 2 * 14, 30, 3)
    np.testing.assert_array_equal(picture[:20], outline(ramp, mask))
    for label, line in ((1, picture[20:34]), (2, picture[34:])):
        tint = line.sum(axis=(0, 1)) / line.sum(axis=(0, 1)).max()  # letters have soft edges
        np.testing.assert_allclose(tint, np.array(colour(label)) / max(colour(label)), atol=0.05)
    source = open_image(write("a", ramp))
    assert overlay(source.pixels, mask, CLASSES) == overlay(ramp, mask, CLASSES)
