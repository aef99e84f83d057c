"""What touches a stranger's file, in processes that may die or hang: no TensorFlow here."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from pydicom import Dataset

from tf_dicom_ce.dicom.pictures import picture_format, read_picture
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.results.source import Source, open_image
from tf_dicom_ce.workers import Worker

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
    return Source(header, 0, (0, 0, *shape), picture.pixels)


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
