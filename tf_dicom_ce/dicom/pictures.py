"""Reads frames of any file: DICOM, PNG or JPEG; the last two carry no tags."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tf_dicom_ce.dicom import part10
from tf_dicom_ce.dicom.reader import ULTRASOUND, Frame, looked_at, read_frames
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import Region

_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_MAX_PIXELS = 1 << 26


def picture_format(path: str | os.PathLike[str]) -> str | None:
    """Returns "PNG", "JPEG" or, for anything else, None, by the first bytes of the file."""
    file = part10.open_regular(path)
    if isinstance(file, Refusal):
        return None
    with file:
        start = file.read(8)
    return next((name for magic, name in _STARTS.items() if start.startswith(magic)), None)


def read_images(
    path: str | os.PathLike[str],
    frames: Sequence[int | None],
    find_sector: bool = False,
    blank_outside: bool = False,
    classes: frozenset[str] = ULTRASOUND,
) -> list[Frame | Refusal]:
    """Reads frames of one file: DICOM as `read_frames` does, PNG or JPEG as `read_picture` does.

    The content tells the format. A frame is a number from 0, or None for the middle one.
    """
    if picture_format(path):
        picture = read_picture(path, blank_outside)
        out = Refusal(Code.FRAME_OUT_OF_RANGE, "a picture has one frame")
        return [picture if frame in (None, 0) else out for frame in frames]
    # Only the reader knows the number of the middle one: open the file for it alone.
    openings = [None if k is None else [k] for k in frames] if None in frames else [frames]
    options = {"find_sector": find_sector, "blank_outside": blank_outside, "classes": classes}
    return [found for numbers in openings for found in read_frames(path, numbers, **options)]


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int] | Refusal:
    """Returns height and width, from the header alone."""
    return _read(path, lambda image: (image.height, image.width))


def read_picture(path: str | os.PathLike[str], blank_outside: bool = False) -> Frame | Refusal:
    """Reads the luma of a PNG or JPEG, without cropping.

    `blank_outside` blackens all outside of the ultrasound, and refuses a picture without any.
    No content of a file raises.
    """
    frame = _read(path, _to_frame)
    return looked_at(frame, False, blank_outside) if isinstance(frame, Frame) else frame


def _read(path: str | os.PathLike[str], take: Callable[[Image.Image], Any]) -> Any:
    file = part10.open_regular(path)
    if isinstance(file, Refusal):
        return file
    with file:
        try:
            with Image.open(file, formats=tuple(_STARTS.values())) as image:
                if image.width * image.height > _MAX_PIXELS:
                    return Refusal(Code.TOO_LARGE, "width × height")
                return take(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return Refusal(Code.TOO_LARGE, "width × height")
        # Decoders raise anything on damaged streams.
        except Exception as error:
            return Refusal(Code.DECODE_FAILED, type(error).__name__)


def _to_frame(image: Image.Image) -> Frame | Refusal:
    if image.mode.startswith(("I", "F")):
        return Refusal(Code.UNSUPPORTED_PHOTOMETRIC, "more than 8 bits a sample")
    colours = image.convert("RGB") if image.mode == "P" else image
    pixels = np.asarray(colours.convert("L"))
    return Frame(pixels, (), Region(0, 0, *pixels.shape), pixels.shape)
