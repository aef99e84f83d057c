"""The process of a trial, as the search sees it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_dicom_ce.child_process import last_line, run_child

CONFIG, LOG, RESULT, EXPORT = "config.toml", "log.txt", "result.json", "export"


def run_trial(
    command: Sequence[str], folder: Path, words: Sequence[str], environment: Mapping[str, str]
) -> dict:
    """Runs a trial to its end in a process of its own.

    Args:
        command: How to start it.
        folder: The trial's folder, with its `config.toml`.
        words: What to hand to `train` besides.
        environment: The process's environment.

    Returns:
        The content of `result.json`.

    Raises:
        ChildError: It failed.
    """
    run_child([*command, str(folder), *words], folder / LOG, environment)
    return json.loads((folder / RESULT).read_text())


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Options of `train` as its command line has them; None, False and "" are not told."""
    words = []
    for name, value in options.items():
        if value in (None, False, ""):
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += ["--" + name.replace("_", "-"), *([] if value is True else map(str, values))]
    return words


def last_words(folder: Path) -> str:
    """The last line of a trial's log."""
    return last_line(folder / LOG)
