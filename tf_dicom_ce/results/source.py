"""One frame of a DICOM file, with what a result has to say about where it comes from."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset

from tf_dicom_ce.dicom.pictures import picture_format, read_images
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import ULTRASOUND, number_of_frames, read_header
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import Region

_MAX_SIDE = 0xFFFF  # the largest (0028,0010) Rows


@dataclasses.dataclass(frozen=True)
class Source:
    """What a result is made of.

    Attributes:
        header: The elements before the pixel data, `file_meta` included; look at them within
            `dicom.quiet.quiet()`.
        frame: Of a cine, from 0.
        region: Of `pixels` in the file's Rows × Columns.
        pixels: uint8 [height, width], 0 black to 255 white: what the model is to see.
    """

    header: Dataset
    frame: int
    region: Region
    pixels: np.ndarray

    def in_file(self, mask: np.ndarray) -> np.ndarray:
        """Puts a mask of `pixels`, uint8 [height, width], in its place in the file.

        Returns:
            uint8 [Rows, Columns], zero outside of the region.

        Raises:
            ValueError: The mask has another size.
        """
        if mask.shape != self.pixels.shape:
            raise ValueError(f"mask of {mask.shape}, the image has {self.pixels.shape}")
        whole = np.zeros((int(self.header.Rows), int(self.header.Columns)), np.uint8)
        whole[self.region.slices] = mask
        return whole


def open_image(
    file: str | os.PathLike[str] | bytes,
    classes: frozenset[str] = ULTRASOUND,
    find_sector: bool = False,
    blank_outside: bool = False,
    frame: int | None = None,
) -> Source | Refusal:
    """Reads one frame of DICOM, PNG or JPEG as in training, and keeps the header.

    Args:
        file: A path (links are not followed), or a file's content, which is put into a temporary
            file meanwhile.
        classes: The SOP class UIDs to accept.
        find_sector: See `read_frames`.
        blank_outside: See `read_frames`.
        frame: From 0; None for the middle one.

    Returns:
        The source, or why there is none; the header of a picture has Rows and Columns only. No
        content of a file raises.
    """
    opened = on_disk(file) if isinstance(file, bytes) else contextlib.nullcontext(file)
    with opened as path:
        is_picture = picture_format(path)
        header = Dataset() if is_picture else read_header(path, classes)
        if isinstance(header, Refusal):
            return header
        with quiet():
            index = number_of_frames(header) // 2 if frame is None else frame
        (found,) = read_images(path, (index,), find_sector, blank_outside, classes)
    if isinstance(found, Refusal):
        return found
    if max(found.source_shape) > _MAX_SIDE:
        return Refusal(Code.TOO_LARGE, "rows × columns")
    if is_picture:
        header.Rows, header.Columns = found.source_shape
    return Source(header, index, found.region, found.pixels)


@contextlib.contextmanager
def on_disk(content: bytes) -> Iterator[Path]:
    """Puts a file's content where no other user can read it, and removes it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        yield path
