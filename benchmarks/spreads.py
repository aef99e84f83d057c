"""Medians with the middle half of the values, of what was measured by turns."""

import math
import statistics
from collections.abc import Sequence


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
