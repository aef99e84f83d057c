"""Decodes images in processes of their own, in order, at bounded memory."""

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

_FRAMES_AT_ONCE = 8  # of one file: a cine of any length stays within this memory
_TIMEOUT = 60.0  # seconds for that many frames


class Image(Protocol):
    """What is decoded: `Sample` and `labels.Example` fit."""

    path: str  # the file, relative to its root
    frame: int | None  # of a cine, from 0; None for the middle one


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame of a file."""

    path: str  # of the file, relative to the root
    row: int  # number of the file in the index
    frame: int | None  # from 0; None for the middle one


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """How files become frames."""

    root: Path  # the folder that paths are relative to
    classes: frozenset[str]  # SOP classes that are read
    find_sector: bool = False  # look for the ultrasound in the picture where no region is given
    blank_outside: bool = False  # blacken what lies outside of the ultrasound, see `read_frames`
    exclude: frozenset[Flag] = frozenset()  # frames that have one of these flags are refused

    def read(self, path: str, frames: Sequence[int | None]) -> list[Frame | Refusal]:
        """Reads frames of one file by their numbers from 0; None for the middle one."""
        looks = (self.find_sector, self.blank_outside, self.classes)
        found = read_images(self.root / path, frames, *looks)
        for k, frame in enumerate(found):
            if isinstance(frame, Frame) and self.exclude.intersection(frame.flags):
                found[k] = Refusal(Code.EXCLUDED)
        return found


def decode_images(
    reader: ImageReader, images: Iterable[Image], workers: int | None = None
) -> Iterator[tuple[int, Frame | Refusal]]:
    """Yields the number of every image and what `reader` gave for it, with a progress bar.

    Frames of one file that follow each other are read together. There is a worker process for each
    core, or as many as `workers` says; a file whose worker dies or hangs is refused.
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
    with Bar(auto_refresh=False) as bar:  # a generator, which may be collected
        yield from enumerate(bar.track(frames, total=len(images), description="Decoding"))


def _read(reader: ImageReader, task: tuple[str, list[int | None]]) -> list[Frame | Refusal]:
    return reader.read(*task)


def refusal_of(outage: Outage) -> Refusal:
    """What a file is refused for whose worker gave no answer."""
    return Refusal(Code.READER_DIED if outage is Outage.DIED else Code.TIMED_OUT)
