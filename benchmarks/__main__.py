"""Measures how fast each part is beside what one would use instead.

    python -m benchmarks all             everything, into docs/performance.md
    python -m benchmarks step input      some of it
    python -m benchmarks report          renders again what was measured before
    python -m benchmarks all --trial     tiny sizes, to see that it runs; not into docs

Wants the extra `[bench]` and an idle machine. What was measured is kept in build/benchmarks.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import index_speed, phantom_speed, record, report, scaling, serving, start, ways
from benchmarks.reading import growth
from benchmarks.reading import measure as reading
from benchmarks.reading import tables as reading_tables
from benchmarks.sizes import FULL, TRIAL, Sizes
from benchmarks.step import measure as step
from benchmarks.step import tables as step_tables
from benchmarks.tables import Goal, Table

_DOCUMENT = Path("docs", "performance.md")


class Benchmark(NamedTuple):
    """Sizes and a folder to work in -> results; results -> tables, goals."""

    measure: Callable[[Sizes, Path], dict | list]
    tables: Callable[[dict], list[Table]]
    goals: Callable[[dict], list[Goal]]


def _of(module) -> Benchmark:
    return Benchmark(module.measure, module.tables, module.goals)


BENCHMARKS = {
    "step": Benchmark(step.measure, step_tables.tables, step_tables.goals),
    "ways": _of(ways),
    "input": Benchmark(reading.measure, reading_tables.tables, reading_tables.goals),
    "growth": Benchmark(growth.measure, reading_tables.growth_tables, reading_tables.growth_goals),
    "scaling": _of(scaling),
    "index": _of(index_speed),
    "phantom": _of(phantom_speed),
    "start": _of(start),
    "serving": _of(serving),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="+", choices=[*BENCHMARKS, "all", "report"])
    parser.add_argument("--trial", action="store_true", help="tiny sizes")
    parser.add_argument("--results", type=Path, metavar="DIR", help="on a disk, not in memory")
    parser.add_argument("--out", type=Path, metavar="MD", help=f"default: {_DOCUMENT}")
    options = parser.parse_args()
    folder = options.results or Path("build", "benchmarks-trial" if options.trial else "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    document = options.out or (folder / _DOCUMENT.name if options.trial else _DOCUMENT)
    if not document.exists():
        shutil.copy(_DOCUMENT, document)
    for name, benchmark in BENCHMARKS.items():
        if name in options.what or "all" in options.what:
            begin = time.monotonic()
            with tempfile.TemporaryDirectory(dir=folder) as work:
                results = benchmark.measure(TRIAL if options.trial else FULL, Path(work))
            command = f"python -m benchmarks {name}{' --trial' if options.trial else ''}"
            record.write(folder, name, command, results)
            print(f"{name}: {(time.monotonic() - begin) / 60:.1f} min", file=sys.stderr)
    records = {name: found for name in BENCHMARKS if (found := record.read(folder, name))}
    report.write(document, records, BENCHMARKS)


if __name__ == "__main__":
    main()
