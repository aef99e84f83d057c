"""What touches a stranger's file, for worker processes: no TensorFlow here."""

import os

from pydicom import Dataset

from tf_dicom_ce.dicom.pictures import picture_format, read_picture
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.results.source import Source, open_image

_MAX_PIXELS = 1 << 24  # 4096 × 4096; a model takes some 10 bytes for each
_MAX_SIDE = 0xFFFF  # the largest (0028,0010) Rows


def read(
    path: str | os.PathLike[str], frame: int | None, find_sector: bool, blank_outside: bool
) -> Source | Refusal:
    """Reads one frame of a DICOM, PNG or JPEG file, as its content says.

    Args:
        path: The file.
        frame: From 0; None for the middle one.
        find_sector: As the model was trained: look for the ultrasound where no region is given.
        blank_outside: As the model was trained: blacken what lies outside of the ultrasound.

    Returns:
        The source, or why there is none; that of a picture has a header of Rows and Columns only.
    """
    if picture_format(path):
        source = _picture(path, frame, blank_outside)
    else:
        source = open_image(path, find_sector=find_sector, blank_outside=blank_outside, frame=frame)
    if isinstance(source, Source) and source.pixels.size > _MAX_PIXELS:
        return Refusal(Code.TOO_LARGE, "rows × columns")
    return source


def _picture(
    path: str | os.PathLike[str], frame: int | None, blank_outside: bool
) -> Source | Refusal:
    if frame not in (None, 0):
        return Refusal(Code.FRAME_OUT_OF_RANGE, "a picture has one frame")
    picture = read_picture(path, blank_outside)
    if isinstance(picture, Refusal):
        return picture
    header, shape = Dataset(), picture.pixels.shape
    if max(shape) > _MAX_SIDE:
        return Refusal(Code.TOO_LARGE, "rows × columns")
    header.Rows, header.Columns = shape
    return Source(header, 0, picture.region, picture.pixels)
