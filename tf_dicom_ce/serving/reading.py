"""What touches a stranger's file, for worker processes: no TensorFlow here."""

import os

from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.results.source import Source, open_image

_MAX_PIXELS = 1 << 24  # 4096 × 4096; a model takes some 10 bytes for each


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
    source = open_image(path, find_sector=find_sector, blank_outside=blank_outside, frame=frame)
    if isinstance(source, Source) and source.pixels.size > _MAX_PIXELS:
        return Refusal(Code.TOO_LARGE, "rows × columns")
    return source
