"""Calls in processes that may die or hang, at the cost of that call."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tf_dicom_ce.workers import Outage, Worker


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
            The result; a `Outage` if its worker died or took too long; a `Failure` if the function
            raised something.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = Worker(_call, _itself, self._timeout)
        try:
            (result,) = worker([(function, arguments)])
        except BaseException:
            worker.end()
            raise
        self._idle.append(worker)
        return result


def _itself(outage: Outage) -> Outage:
    return outage


def _call(item: tuple[Callable[..., Any], tuple]) -> Any:
    function, arguments = item
    try:
        return function(*arguments)
    except Exception as error:
        return Failure(type(error).__name__)
