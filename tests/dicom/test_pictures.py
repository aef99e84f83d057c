import os

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.dicom.pictures import picture_format, picture_size, read_picture
from tf_dicom_ce.dicom.refusals import Code


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA"])
def test_luma_of_every_mode(tmp_path, colours, mode):
    image = Image.fromarray(colours).convert(mode)
    image.save(tmp_path / "a", "PNG")
    frame = read_picture(tmp_path / "a")
    flat = image.convert("RGB" if mode == "P" else mode).convert("L")
    np.testing.assert_array_equal(frame.pixels, flat)
    assert (picture_format(tmp_path / "a"), picture_size(tmp_path / "a")) == ("PNG", (20, 30))
    assert frame.source_shape == (20, 30)


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "a", "PNG")
    assert read_picture(tmp_path / "a").code is Code.UNSUPPORTED_PHOTOMETRIC


def test_huge_pictures_are_refused_by_their_header(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "a", "PNG")
    assert read_picture(tmp_path / "a").code is Code.TOO_LARGE
    assert picture_size(tmp_path / "a").code is Code.TOO_LARGE


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damage_is_a_code(tmp_path, colours, kind):
    Image.fromarray(colours).save(tmp_path / "whole", kind)
    content = (tmp_path / "whole").read_bytes()
    for size in range(9, len(content) - 20, 37):
        (tmp_path / "a").write_bytes(content[:size])
        assert read_picture(tmp_path / "a").code is Code.DECODE_FAILED


def test_what_is_no_picture(tmp_path):
    (tmp_path / "a").write_bytes(b"\x89PN")
    os.mkfifo(tmp_path / "b")
    for name in ("a", "b", "none"):
        assert picture_format(tmp_path / name) is None
    assert read_picture(tmp_path / "b").code is Code.NOT_REGULAR
