"""`serving_latency.py`, in a process of its own, for the report."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.sizes import Sizes
from benchmarks.spreads import ratios, spread
from benchmarks.tables import Goal, Table, at_least, at_most

_SCRIPT = Path(__file__).with_name("serving_latency.py")
_MOST_ADDED, _LEAST_RATIO = 10.0, 0.9  # ms; the script's


def measure(sizes: Sizes, folder: Path) -> list[dict]:
    """What the script wrote, by head."""
    width = str(sizes.configs["paper"].width)
    file = folder / "serving.json"
    rounds = ["--rounds", str(5 * sizes.least), "--turns", str(sizes.least)]
    words = [sys.executable, str(_SCRIPT), "--width", width, *rounds, "--json", str(file)]
    subprocess.run(words, stdout=sys.stderr)  # it exits with 1 where a goal is not met
    return json.loads(file.read_text())


def tables(results: list[dict]) -> list[Table]:
    """In process and over HTTP."""
    rows = []
    for head in results:
        one, many = head["one"], head["many"]
        rows.append(
            [
                head["setting"],
                *(spread([1e3 * s for s in one[side]]) for side in ("here", "http")),
                *(spread([many["images"] / s for s in many[side]]) for side in ("here", "http")),
                spread(ratios(many["here"], many["http"])),
            ]
        )
    header = (
        *("", "1 image in process, ms", "1 client over HTTP, ms"),
        *("batches of 8 in process, images/s", "8 clients over HTTP, images/s", "ratio"),
    )
    return [Table("Serving: what HTTP adds", header, rows)]


def goals(results: list[dict]) -> list[Goal]:
    """The script's."""
    found = []
    for head in results:
        one, many, what = head["one"], head["many"], head["setting"].partition(",")[0]
        added = 1e3 * (median(one["http"]) - median(one["here"]))
        found.append(at_most(f"Serving, {what}: HTTP adds", _MOST_ADDED, added, " ms"))
        ratio = median(ratios(many["here"], many["http"]))
        found.append(at_least(f"Serving, {what}: 8 clients' images", _LEAST_RATIO, ratio, ""))
    return found
