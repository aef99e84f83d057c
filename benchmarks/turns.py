"""Contenders in separate processes, which run in turns: A B A B …, never two at a time.

In one process, TensorFlow's and PyTorch's threads would disturb each other. In turns, other load
and the temperature of the machine affect all contenders alike.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Measures = dict[str, float]
Round = tuple[float, dict[str, list[Measures]]]

_EVERY = 0.05  # seconds between two looks at a working contender's memory
_PAUSE = 0.3  # seconds between two turns: threads of the last turn still spin


class Contender:
    """A process that runs the tasks of `contender`, until it is left.

    Args:
        function: `module:function`, see `contender`.
        environment: Variables that differ from this process's.
        checkout: Folder of another checkout, whose code is run; None for this one.
        arguments: Arguments of the function.

    Attributes:
        memory: Bytes: the highest `peak`, `anonymous` and `mapped` so far.
    """

    def __init__(
        self,
        function: str,
        environment: Mapping[str, str] | None = None,
        checkout: Path | None = None,
        **arguments: object,
    ):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed on leaving
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contender", function, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=checkout,
            env={**os.environ, **code_of(checkout), **(environment or {})},
        )
        self.memory: dict[str, int] = {}
        self.tasks: list[str] = self._answer()["tasks"]

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def ask(self, task: str, times: int = 1) -> list[Measures]:
        """Runs a task; the measures of each time, with the highest `memory` until then."""
        print(json.dumps({"task": task, "times": times}), file=self._process.stdin, flush=True)
        answer = self._answer()
        self._see(answer["memory"])
        return [measures | self.memory for measures in answer["measures"]]

    def _answer(self) -> dict:
        while not select.select([self._process.stdout], [], [], _EVERY)[0]:
            self._see({"anonymous": self._anonymous()})
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"A contender has died: {self._log.read()[-4000:]}")
        return json.loads(line)

    def _anonymous(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        lines = [line for line in status if line.startswith("RssAnon")]
        return 1024 * int(lines[0].split()[1]) if lines else 0  # no line: it has just died

    def _see(self, memory: Mapping[str, int]) -> None:
        for name, size in memory.items():
            self.memory[name] = max(size, self.memory.get(name, 0))


def code_of(checkout: Path | None) -> dict[str, str]:
    """Variables with which Python imports the code of another checkout; none for None."""
    return {"PYTHONPATH": str(checkout)} if checkout else {}


def by_turns(
    turns: Mapping[str, Callable[[], list[Measures]]],
    pause: float = _PAUSE,
    warm_up: bool = True,
) -> Iterator[Round]:
    """Runs rounds of turns for ever, after one round that does not count.

    Args:
        turns: Name -> function that runs the contender's turn and returns its measures.
        pause: Seconds before each turn.
        warm_up: Whether a first round does not count.

    Yields:
        Seconds of the round, and name -> measures of its turn.
    """
    for turn in turns.values() if warm_up else ():
        turn()
    while True:
        start, found = time.monotonic(), {}
        for name, turn in turns.items():
            time.sleep(pause)
            found[name] = turn()
        yield time.monotonic() - start, found


def timed(function: Callable[[], object]) -> Callable[[], list[Measures]]:
    """A turn that is one call in this process, with its wall time in seconds."""

    def turn() -> list[Measures]:
        start = time.perf_counter()
        function()
        return [{"seconds": time.perf_counter() - start}]

    return turn
