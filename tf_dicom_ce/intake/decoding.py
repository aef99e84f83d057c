"""Decodes images in worker processes, in order, with bounded memory."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.pictures import read_images
from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.progress import Bar
from tf_dicom_ce.workers import Outage, guarded_map

_FRAMES_AT_ONCE = 8  # of one file: bounds the memory for a cine of any length
_TIMEOUT = 60.0  # seconds for that many frames


class Image(Protocol):
    """An image to decode, such as a `Sample` or a `labels.Example`."""

    path: str  # the file, relative to its root
    frame: int | None  # frame of a cine, from 0; None for the middle one


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame of a file."""

    path: str  # path of the file, relative to the root
    row: int  # number of the file in the index
    frame: int | None  # from 0; None for the middle one


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """Reads frames of files, with the options of a training."""

    root: Path  # the folder that paths are relative to
    classes: frozenset[str]  # SOP class UIDs to accept
    find_sector: bool = False  # see `read_frames`
    blank_outside: bool = False  # see `read_frames`
    exclude: frozenset[Flag] = frozenset()  # refuse frames with one of these flags

    def read(self, path: str, frames: Sequence[int | None]) -> list[Frame | Refusal]:
        """Reads frames of one file; a frame is a number from 0, or None for the middle one."""
        looks = (self.find_sector, self.blank_outside, self.classes)
        found = read_images(self.root / path, frames, *looks)
        for k, frame in enumerate(found):
            if isinstance(frame, Frame) and self.exclude.intersection(frame.flags):
                found[k] = Refusal(Code.EXCLUDED)
        return found


def decode_images(
    reader: ImageReader, images: Iterable[Image], workers: int | None = None
) -> Iterator[tuple[int, Frame | Refusal]]:
    """Yields, in order, the number of every image and its frame or refusal; shows progress.

    Consecutive frames of one file are read together. A file whose worker process dies or hangs is
    refused. `workers` is the number of processes, by default one per core.
    """
    images = tuple(images)
    tasks = []
    for path, group in itertools.groupby(images, key=lambda image: image.path):
        frames = [image.frame for image in group]
        tasks += (
            (path, frames[k : k + _FRAMES_AT_ONCE]) for k in range(0, len(frames), _FRAMES_AT_ONCE)
        )
    results = guarded_map(
        functools.partial(_read, reader), tasks, refusal_of, workers, _TIMEOUT, chunk=4
    )
    frames = itertools.chain.from_iterable(
        found if isinstance(found, list) else [found] * len(task[1])
        for task, found in zip(tasks, results, strict=True)
    )
    # Without the bar's thread, which could not be joined when this generator is collected.
    with Bar(auto_refresh=False) as bar:
        yield from enumerate(bar.track(frames, total=len(images), description="Decoding"))


def _read(reader: ImageReader, task: tuple[str, list[int | None]]) -> list[Frame | Refusal]:
    return reader.read(*task)


def refusal_of(outage: Outage) -> Refusal:
    """Returns the refusal of a file whose worker died or hung."""
    return Refusal(Code.READER_DIED if outage is Outage.DIED else Code.TIMED_OUT)
