"""Which frames of a cine become images."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Protocol

from tf_dicom_ce.errors import UserError


class File(Protocol):
    """What is asked of a row of the index."""

    path: str
    frames: int


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame of a file.

    Attributes:
        path: Of the file, relative to the root.
        row: Number of the file in the index.
        frame: From 0; None for the middle one.
    """

    path: str
    row: int
    frame: int | None


def check_choice(choice: str) -> None:
    """Raises a UserError unless `choice` is "middle", "all" or "every:N" with N of 1 or more."""
    if not re.fullmatch(r"middle|all|every:[1-9]\d*", choice):
        raise UserError(f"--frames {choice}: choose middle, all, or every:N, e.g. every:10.")


def choose_frames(files: Sequence[File], choice: str) -> tuple[Sample, ...]:
    """Lists the chosen frames, file by file.

    Args:
        files: Rows of the index.
        choice: "middle": one a file; "all"; or "every:N": of a file with F frames those numbered
            s, s + N, s + 2N, … where s centres them, at least one.

    Returns:
        The samples, in the order of files and frames.
    """
    check_choice(choice)
    return tuple(
        Sample(file.path, row, frame)
        for row, file in enumerate(files)
        for frame in _frames(file.frames, choice)
    )


def _frames(count: int, choice: str) -> Sequence[int | None]:
    if choice == "middle":
        return (None,)
    step = 1 if choice == "all" else int(choice.partition(":")[2])
    start = (count - 1) % step // 2 if count > step else (count - 1) // 2
    return range(start, count, step)
