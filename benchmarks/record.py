"""One JSON file a benchmark: what was measured, when, on what, with which command."""

import datetime
import json
from pathlib import Path

from benchmarks.machine import machine, versions


def write(folder: Path, name: str, command: str, results: dict) -> None:
    """Writes a benchmark's record."""
    record = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "results": results,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def read(folder: Path, name: str) -> dict | None:
    """A benchmark's record; None if it was not measured."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None
