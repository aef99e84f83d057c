"""Measures what HTTP adds to a prediction: `serving_latency`, into the document (3 min)."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.serving_latency import LEAST_RATIO, MOST_ADDED_MS
from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table, at_least, at_most, ratios, spread


def measure(sizes: Sizes, folder: Path) -> list[dict]:
    """The result of `serving_latency`, run in another process, by head."""
    width = str(sizes.configs["paper"].width)
    file = folder / "serving.json"
    rounds = ["--rounds", str(5 * sizes.least), "--turns", str(sizes.least)]
    words = ["serving_latency", "--width", width, *rounds, "--json", str(file)]
    program = [sys.executable, "-m", "benchmarks"]
    subprocess.run([*program, *words], stdout=sys.stderr)  # it exits with 1 where a goal is not met
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
    """Those of `serving_latency`."""
    found = []
    for head in results:
        one, many, what = head["one"], head["many"], head["setting"].partition(",")[0]
        added = 1e3 * (median(one["http"]) - median(one["here"]))
        found.append(at_most(f"Serving, {what}: HTTP adds", MOST_ADDED_MS, added, " ms"))
        ratio = median(ratios(many["here"], many["http"]))
        found.append(at_least(f"Serving, {what}: 8 clients' images", LEAST_RATIO, ratio, ""))
    return found
