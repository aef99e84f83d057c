"""Renders the stored results into docs/performance.md again (seconds).

Each benchmark has one JSON file with results, date, machine and command. A block of the document is
between `<!-- name -->` and `<!-- /name -->`: `goals`, `machine`, and one for each benchmark. The
prose is not changed.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import MEASURED
from benchmarks.plot import draw
from benchmarks.sizes import FULL, TRIAL
from benchmarks.tables import Goal, Table

_DOCUMENT = Path("docs", "performance.md")
_PACKAGES = (
    *("tensorflow", "keras", "torch", "monai", "pydicom", "python-gdcm", "numpy", "pillow"),
    *("pyjpegls", "pylibjpeg-rle", "tf-dicom-ce"),
)
_EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("more", nargs="*", choices=MEASURED, metavar="NAME", help="measured too")
    parser.add_argument("--trial", action="store_true", help="tiny sizes; not into docs")
    parser.add_argument("--results", type=Path, metavar="DIR", help="on a disk, not in memory")
    parser.add_argument("--out", type=Path, metavar="MD", help=f"default: {_DOCUMENT}")


def run(options: argparse.Namespace) -> None:
    """Runs the named benchmarks (`all`: all, `report`: none), and renders all records."""
    trial = " --trial" if options.trial else ""
    folder = options.results or Path("build", "benchmarks-trial" if trial else "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    document = options.out or (folder / _DOCUMENT.name if trial else _DOCUMENT)
    if not document.exists():
        shutil.copy(_DOCUMENT, document)
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in MEASURED}
    chosen = MEASURED if options.what == "all" else (options.what, *options.more)
    for name, module in modules.items():
        if name in chosen:
            begin = time.monotonic()
            with tempfile.TemporaryDirectory(dir=folder) as work:
                results = module.measure(TRIAL if trial else FULL, Path(work))
            record = {
                "command": f"python -m benchmarks {name}{trial}",
                "date": datetime.date.today().isoformat(),
                "machine": machine(),
                "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
                "results": results,
            }
            (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
            print(f"{name}: {(time.monotonic() - begin) / 60:.1f} min", file=sys.stderr)
    files = {name: folder / f"{name}.json" for name in MEASURED}
    records = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    write(document, records, modules)


def machine() -> dict[str, str]:
    """Processor, memory, system and Python."""
    cpu, memory = Path("/proc/cpuinfo").read_text(), Path("/proc/meminfo").read_text()
    flags = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    known = [name for name in _EXTENSIONS if flags and name in flags[1].split()]
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    kibibytes = int(re.search(r"^MemTotal:\s*(\d+)", memory)[1])
    return {
        "processor": f"{model[1] if model else platform.machine()} ({', '.join(known)})",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{kibibytes / 1024**2:.1f} GiB",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}",
        "python": platform.python_version(),
    }


def write(document: Path, records: Mapping[str, dict], benchmarks: Mapping) -> None:
    """Renders the records; a block without a record is not changed.

    Args:
        document: Markdown with the marks; a picture of the same name is drawn beside it.
        records: Benchmark -> its record.
        benchmarks: Benchmark -> its module.
    """
    results = {name: record["results"] for name, record in records.items()}
    goals = [goal for name in results for goal in benchmarks[name].goals(results[name])]
    blocks = {"goals": _goals(goals).markdown(), "machine": _machines(records).markdown()}
    for name in results:
        tables = "\n\n".join(table.markdown() for table in benchmarks[name].tables(results[name]))
        blocks[name] = f"`{records[name]['command']}`\n\n{tables}"
    text = document.read_text()
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"{document.name} has no place for {name}.")
        text = f"{before}{mark}\n{block}\n\n{end}{after}"
    document.write_text(text)
    draw(results, document.with_suffix(".svg"))


def _goals(goals: list[Goal]) -> Table:
    rows = [[g.what, g.wanted, g.found, "yes" if g.met else "**no**"] for g in goals]
    return Table("Goals", ("", "wanted", "found", "met"), rows)


def _machines(records: Mapping[str, dict]) -> Table:
    """One row if all records are from the same machine, more if they differ."""
    rows = []
    for record in records.values():
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        row = [record["date"], *record["machine"].values(), versions]
        if row not in rows:
            rows.append(row)
    header = ["date", *next(iter(records.values()))["machine"], "versions"]
    return Table("Machine", header, rows)
