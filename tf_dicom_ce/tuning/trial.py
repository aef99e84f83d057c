"""The process of a trial, as the search sees it."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CONFIG, LOG, RESULT, EXPORT = "config.toml", "log.txt", "result.json", "export"
_GRACE = 60.0  # seconds that a trial has to save its state


class TrialError(Exception):
    """A trial ended without a result; the message is the last thing it said."""


def run_process(
    command: Sequence[str], folder: Path, words: Sequence[str], environment: Mapping[str, str]
) -> dict:
    """Runs a trial to its end in a process of its own.

    The process ends with this one: its standard input is a pipe that nobody writes to.

    Args:
        command: How to start it.
        folder: The trial's folder, with its `config.toml`.
        words: What to hand to `train` besides.
        environment: The process's environment.

    Returns:
        The content of `result.json`.

    Raises:
        TrialError: It failed.
    """
    with (
        (folder / LOG).open("ab") as log,
        subprocess.Popen(
            [*command, str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the search, which passes it on once
        ) as process,
    ):
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(_GRACE)
            process.kill()
            raise
        if code < 0:
            log.write(f"\nended by {signal.Signals(-code).name}\n".encode())
    if code:
        raise TrialError(last_line(folder) or f"ended with code {code}")
    return json.loads((folder / RESULT).read_text())


def last_line(folder: Path) -> str:
    """The last line of a trial's log that is not empty."""
    try:
        with (folder / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
            lines = log.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
