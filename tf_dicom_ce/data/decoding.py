"""Decodes image files in processes of their own, in order, at bounded memory."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.progress import track

from tf_dicom_ce.dicom.reader import Frame, read_frame
from tf_dicom_ce.dicom.refusals import Code, Refusal

_BLOCK = 256  # frames under way at once
_FEW = 64  # below, starting processes costs more than it saves


def read_image(path: Path) -> Frame | Refusal:
    """Reads a DICOM file's middle frame, or a PNG or JPEG by the luma of its pixels.

    Args:
        path: The file; what it is, its content says.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if not start.startswith((b"\x89PNG", b"\xff\xd8")):
            return read_frame(path)
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                return Refusal(Code.UNSUPPORTED_PHOTOMETRIC, "more than 8 bits a sample")
            pixels = np.asarray(image.convert("RGB" if image.mode == "P" else image.mode))
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return Refusal(Code.DECODE_FAILED, type(error).__name__)
    everything = (slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))
    return Frame(pixels, (), everything, pixels.shape)


def decode_images(
    paths: Sequence[Path], workers: int | None = None
) -> Iterator[tuple[int, Frame | Refusal]]:
    """Yields (number, frame or refusal) of every file, with a progress bar.

    Args:
        paths: The files.
        workers: Processes; by default one a core.

    Yields:
        Position in `paths` and what `read_image` gave for it, in their order.
    """
    if len(paths) < _FEW:
        yield from enumerate(map(read_image, paths))
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's threads
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=spawn) as pool:

        def results():
            for start in range(0, len(paths), _BLOCK):
                yield from pool.map(read_image, paths[start : start + _BLOCK], chunksize=8)

        yield from enumerate(track(results(), "Decoding", total=len(paths)))
