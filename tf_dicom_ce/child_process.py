"""Runs a command of this package in its own process, which ends when this one ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Environment variables that keep Python from importing files of the working folder: it holds data.
SAFE = {"PYTHONSAFEPATH": "1"}
#: Folder of this package; a child needs it on its path if the package is not installed.
ROOT = str(Path(__file__).parents[1])
_START = """
import importlib.util, runpy, sys
root, module, *sys.argv[1:] = sys.argv[1:]
if importlib.util.find_spec("tf_dicom_ce") is None:
    sys.path.append(root)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_GRACE = 60.0  # seconds for a child to save its state


def python_module(name: str) -> tuple[str, ...]:
    """The command line that starts a module of this package in a new Python."""
    return (sys.executable, "-P", "-c", _START, ROOT, name)


class ChildError(Exception):
    """A child ended with an error; the message is the last line of its log."""


class Child:
    """A process that appends its output to a log; it has to call `end_with_parent`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]):
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # never written to; closes when this process ends
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, **SAFE},
                start_new_session=True,  # Ctrl-C is for the parent, which passes it on once
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Waits for the end; raises ChildError if the exit code is not 0."""
        code = self._process.wait()
        self._process.stdin.close()
        if code < 0:
            with self._log.open("ab") as file:
                file.write(f"\nended by {signal.Signals(-code).name}\n".encode())
        if code:
            raise ChildError(last_line(self._log) or f"ended with code {code}")

    def stop(self) -> None:
        """Asks a running process to save its state and end; kills it after a minute."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.wait(_GRACE)
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def run_child(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Runs a `Child` to its end; raises as `Child.wait`. Ctrl-C stops it, too."""
    child = Child(command, log, environment)
    try:
        child.wait()
    finally:
        child.stop()


def end_with_parent() -> None:
    """Makes this process stop, as by SIGTERM, when its standard input ends."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    if not log.exists():
        return ""
    lines = log.read_bytes()[-4000:].decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
