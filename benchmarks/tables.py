"""The output of benchmarks: tables, goals with results, medians with quartiles."""

import dataclasses
import math
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: One line above it.
        header: Headings of the columns; the first column names the row.
        rows: Cells.
        note: A line below it, or "".
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown; numbers are right-aligned."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(filter(None, (f"**{self.title}**", table, self.note)))


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure that was aimed at.

    Attributes:
        what: The figure.
        wanted: The goal in words and numbers.
        found: The result in words and numbers.
        met: Whether the goal is reached.
        is_check: Whether the command fails if it is not.
    """

    what: str
    wanted: str
    found: str
    met: bool
    is_check: bool = False


def at_least(what: str, bound: float, found: float, unit: str = "×") -> Goal:
    """A goal that is a lower bound."""
    return Goal(what, f"≥ {bound:g}{unit}", f"{found:.2f}{unit}", found >= bound)


def at_most(what: str, bound: float, found: float, unit: str = "") -> Goal:
    """A goal that is an upper bound."""
    return Goal(what, f"≤ {bound:g}{unit}", f"{found:.2f}{unit}", found <= bound)


def none_of(what: str, found: Sequence[object]) -> Goal:
    """A check that nothing was found."""
    return Goal(what, "0", f"{len(found)}", not found, is_check=True)


def spread(values: Sequence[float]) -> str:
    """Median and quartiles, `2.31 (2.28…2.40)`, in three digits."""
    if len(values) == 1:
        return digits(values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{digits(middle)} ({digits(low)}…{digits(high)})"


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """a / b, turn by turn."""
    return [x / y for x, y in zip(a, b, strict=True)]


def digits(value: float) -> str:
    """A number in three significant digits, without an exponent."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows
    )
