"""PNG and JPEG files, which carry no tags, as frames."""

import os

import numpy as np
from PIL import Image, UnidentifiedImageError

from tf_dicom_ce.dicom import part10
from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal

_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_MAX_PIXELS = 1 << 26


def picture_format(path: str | os.PathLike[str]) -> str | None:
    """Tells by the file's first bytes: "PNG", "JPEG", or None for anything else."""
    file = part10.open_regular(path)
    if isinstance(file, Refusal):
        return None
    with file:
        start = file.read(8)
    return next((name for magic, name in _STARTS.items() if start.startswith(magic)), None)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int] | Refusal:
    """Height and width, from the header alone."""
    opened = _open(path)
    if isinstance(opened, Refusal):
        return opened
    with opened:
        return opened.height, opened.width


def read_picture(path: str | os.PathLike[str]) -> Frame | Refusal:
    """Reads a picture by the luma of its pixels.

    Args:
        path: A PNG or JPEG; links are not followed.

    Returns:
        The frame, not cropped, or why there is none. No content of a file raises.
    """
    opened = _open(path)
    if isinstance(opened, Refusal):
        return opened
    try:
        with opened as image:
            if image.mode.startswith(("I", "F")):
                return Refusal(Code.UNSUPPORTED_PHOTOMETRIC, "more than 8 bits a sample")
            colours = image.convert("RGB") if image.mode == "P" else image
            pixels = np.asarray(colours.convert("L"))
    # Decoders raise anything on damaged streams.
    except Exception as error:
        return Refusal(Code.DECODE_FAILED, type(error).__name__)
    everything = (slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))
    return Frame(pixels, (), everything, pixels.shape)


def _open(path: str | os.PathLike[str]) -> Image.Image | Refusal:
    file = part10.open_regular(path)
    if isinstance(file, Refusal):
        return file
    try:
        image = Image.open(file, formats=tuple(_STARTS.values()))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        file.close()
        return Refusal(Code.DECODE_FAILED, type(error).__name__)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        file.close()
        return Refusal(Code.TOO_LARGE, "width × height")
    if image.width * image.height > _MAX_PIXELS:
        file.close()
        return Refusal(Code.TOO_LARGE, "width × height")
    return image
