"""Decodes the frames of an index in processes of their own, in order, at bounded memory."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from rich.progress import track

from tf_dicom_ce.dicom.index import Index
from tf_dicom_ce.dicom.reader import Frame, read_frame
from tf_dicom_ce.dicom.refusals import Refusal

_BLOCK = 256  # frames under way at once
_FEW = 64  # below, starting processes costs more than it saves


def decode_frames(
    index: Index, workers: int | None = None
) -> Iterator[tuple[int, Frame | Refusal]]:
    """Yields (row number, frame or refusal) of every row of the index, with a progress bar.

    Args:
        index: The index; of each file the middle frame is read.
        workers: Processes; by default one a core.

    Yields:
        Row number and what `read_frame` gave for it, in the order of the rows.
    """
    paths = [index.root / row.path for row in index.rows]
    if len(paths) < _FEW:
        yield from enumerate(map(read_frame, paths))
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's threads
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=spawn) as pool:

        def results():
            for start in range(0, len(paths), _BLOCK):
                yield from pool.map(read_frame, paths[start : start + _BLOCK], chunksize=8)

        yield from enumerate(track(results(), "Decoding", total=len(paths)))
