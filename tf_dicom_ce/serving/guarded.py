"""Calls in processes that may die or hang, at the cost of that call."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

from tf_dicom_ce.workers import Outage, Pool


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
        self._idle: list[Pool] = []

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
            pool = self._idle.pop()
        except IndexError:
            pool = Pool(_call, _itself, 1, self._timeout)
        try:
            pool.submit(0, collections.deque([(function, arguments)]))
            while pool.busy:
                pool.wait()
        except BaseException:
            pool.kill()
            raise
        (result,) = pool.done.pop(0)
        self._idle.append(pool)
        return result


def _itself(outage: Outage) -> Outage:
    return outage


def _call(item: tuple[Callable[..., Any], tuple]) -> Any:
    function, arguments = item
    try:
        return function(*arguments)
    except Exception as error:
        return Failure(type(error).__name__)
