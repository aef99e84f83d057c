"""What a benchmark has measured so far: a line of JSON for every round, written as it comes.

A run may be cut off at any time: the report takes the rounds that are there, and the same command
goes on. A file begins with the conditions. Rounds under other conditions are not mixed with these;
their file is kept as `NAME.before.jsonl`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.turns import Measures, Round, by_turns

Turns = Mapping[str, Callable[[], list[Measures]]]


class Stage:
    """Rounds of the same sides, compared by turns.

    Attributes:
        facts: What is true of all rounds; `wanted`: the seconds that the rounds should take.
        rounds: Side -> its measures, by round.
        seconds: The time that the rounds took, without the start of the sides.
    """

    def __init__(self):
        self.facts: dict = {}
        self.rounds: list[dict[str, list[Measures]]] = []
        self.seconds = 0.0

    @property
    def sides(self) -> list[str]:
        """Those of the first round."""
        return list(self.rounds[0])

    def of(self, side: str, measure: str = "seconds") -> list:
        """All values of a measure, in their order."""
        return [found[measure] for turn in self.rounds for found in turn[side]]

    def add(self, line: Mapping) -> None:
        """Adds a line of the file."""
        self.facts |= line.get("facts", {})
        if "round" in line:
            self.rounds.append(line["round"])
            self.seconds += line["seconds"]

    def __str__(self) -> str:
        wanted = self.facts.get("wanted", 0)
        of = f" of {wanted:.0f}" if self.seconds < wanted else ""
        rounds = "1 round" if len(self.rounds) == 1 else f"{len(self.rounds)} rounds"
        return f"{rounds} in {self.seconds:.0f}{of} s"


class Rounds:
    """The file of one benchmark.

    Args:
        file: `NAME.jsonl`; it need not exist. A last line without an end was cut off and is not
            read.

    Attributes:
        conditions: Under which the rounds were measured; empty without a file.
        stages: Name -> its rounds.
    """

    def __init__(self, file: Path):
        self.file, self.conditions, self.stages = file, {}, {}
        content = file.read_bytes() if file.exists() else b""
        self._whole = content.rfind(b"\n") + 1
        for text in content[: self._whole].splitlines():
            line = json.loads(text)
            if "conditions" in line:
                self.conditions = line["conditions"]
            else:
                self._stage(line["stage"]).add(line)

    def begin(self, conditions: Mapping, anew: bool = False) -> None:
        """Goes on with rounds under the same conditions (but the date), or begins a new file."""

        def undated(found: Mapping) -> dict:
            return {name: value for name, value in found.items() if name != "date"}

        if self.conditions and not anew and undated(self.conditions) == undated(conditions):
            os.truncate(self.file, self._whole)
            return
        if self.conditions:
            before = self.file.with_suffix(".before.jsonl")
            self.file.replace(before)
            print(f"{self.file.stem}: begins anew; {before} has the rounds before", file=sys.stderr)
        self.file.unlink(missing_ok=True)
        self.conditions, self.stages = dict(conditions), {}
        self._write({"conditions": self.conditions})

    def lacking(
        self,
        wanted: Mapping[str, float],
        least: int,
        minutes: float | None = None,
        only: Sequence[str] = (),
    ) -> Iterator["Measuring"]:
        """The stages to measure, the one that lacks most first.

        Args:
            wanted: Stage -> seconds of rounds. Without `minutes` they are the goal, over all runs.
            least: Least number of rounds of a stage, over all runs; with `minutes`, 1.
            minutes: The time of this run, starts included, shared among the stages in proportion.
            only: Stages to choose; empty for all.
        """
        todo = {name: wanted[name] or 1e-9 for name in only or wanted}
        if minutes is None:
            enough = (self._stage(name).seconds >= wanted[name] for name in todo)
            rounds = (len(self._stage(name).rounds) >= least for name in todo)
            done = [name for name, *both in zip(todo, enough, rounds, strict=True) if all(both)]
            todo = {name: seconds for name, seconds in todo.items() if name not in done}
        end = None if minutes is None else time.monotonic() + 60 * minutes
        while todo:
            name = min(todo, key=lambda name: self._stage(name).seconds / todo[name])
            until = None
            if end is not None:
                now = time.monotonic()
                until = now + max(0, end - now) * todo[name] / sum(todo.values())
            self._tell(name, {"facts": {"wanted": wanted[name]}})
            yield Measuring(self, name, wanted[name], least, until)
            del todo[name]

    def _stage(self, name: str) -> Stage:
        return self.stages.setdefault(name, Stage())

    def _tell(self, name: str, line: dict) -> None:
        """Adds a line to the file, and to its stage."""
        self._write({"stage": name, **line})
        self._stage(name).add(line)

    def _write(self, line: dict) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Measuring:
    """A stage that is being measured."""

    def __init__(self, rounds: Rounds, name: str, wanted: float, least: int, until: float | None):
        self.name = name
        self._rounds, self._wanted, self._least, self._until = rounds, wanted, least, until

    @property
    def facts(self) -> dict:
        """What was kept of all rounds."""
        return self._rounds._stage(self.name).facts

    def tell(self, **facts: object) -> None:
        """Keeps what is true of all rounds."""
        self._rounds._tell(self.name, {"facts": facts})

    def take(self, turns: Turns, **how: object) -> None:
        """Measures by turns until the stage has enough or its time is over; at least one round.

        `how`: see `by_turns`.
        """
        self.keep(by_turns(turns, **how))

    def keep(self, rounds: Iterable[Round]) -> None:
        """Keeps rounds as they come, until the stage has enough or its time is over."""
        stage = self._rounds._stage(self.name)
        for seconds, found in rounds:
            self._rounds._tell(self.name, {"round": found, "seconds": seconds})
            print(f"{self._rounds.file.stem}, {self.name}: {stage}", file=sys.stderr)
            if self._is_enough(stage, seconds):
                return

    def _is_enough(self, stage: Stage, seconds: float) -> bool:
        if self._until is not None:  # another round would end too late
            return time.monotonic() + seconds > self._until
        return len(stage.rounds) >= self._least and stage.seconds >= self._wanted
