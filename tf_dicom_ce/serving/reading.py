"""What touches a stranger's file, in processes that may die or hang: no TensorFlow here."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.results.source import Source, open_image
from tf_dicom_ce.workers import Worker

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


@dataclasses.dataclass(frozen=True)
class Failure:
    """What is told of an exception: its class alone, for messages quote the values of elements."""

    name: str


class GuardedCalls:
    """Worker processes that outlive a call; as many as there were calls at the same time.

    Args:
        timeout: Seconds for a call. One that dies or takes longer is tried once more.
    """

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._idle: list[Worker] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns `function(*arguments)`, from any thread.

        Args:
            function: Of a module that workers can import; what it needs is loaded there once.
            *arguments: Anything that can be pickled.

        Returns:
            The result; an `Outage` if its worker died or took too long; a `Failure` if the function
            raised something.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = Worker(_call, lambda outage: outage, self._timeout)
        try:
            (result,) = worker([(function, arguments)])
        except BaseException:
            worker.end()
            raise
        self._idle.append(worker)
        return result


def _call(item: tuple[Callable[..., Any], tuple]) -> Any:
    function, arguments = item
    try:
        return function(*arguments)
    except Exception as error:
        return Failure(type(error).__name__)
