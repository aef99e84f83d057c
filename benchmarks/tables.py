"""What a benchmark has to say: tables, and goals with what was found."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: One line above it.
        header: Of each column; the first column names the row.
        rows: Cells.
        note: A line below it, or "".
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """As Markdown; numbers stand on the right."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(filter(None, (f"**{self.title}**", table, self.note)))


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure that was aimed at.

    Attributes:
        what: The figure.
        wanted: In words and numbers.
        found: The same of what was measured.
        met: Whether it is reached.
    """

    what: str
    wanted: str
    found: str
    met: bool


def at_least(what: str, bound: float, found: float, unit: str = "×") -> Goal:
    """A goal that is a lower bound."""
    return Goal(what, f"≥ {bound:g}{unit}", f"{found:.2f}{unit}", found >= bound)


def at_most(what: str, bound: float, found: float, unit: str = "") -> Goal:
    """A goal that is an upper bound."""
    return Goal(what, f"≤ {bound:g}{unit}", f"{found:.2f}{unit}", found <= bound)
