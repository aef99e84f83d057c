"""A command of ours in a process of its own, which ends when this one does."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: In the environment, keeps Python from importing what lies in the working folder: that is data.
SAFE = {"PYTHONSAFEPATH": "1"}
#: Folder that holds this package; not on the path of a child where the package is not installed.
ROOT = str(Path(__file__).parents[1])
_START = """
import importlib.util, runpy, sys
root, module, *sys.argv[1:] = sys.argv[1:]
if importlib.util.find_spec("tf_dicom_ce") is None:
    sys.path.append(root)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_GRACE = 60.0  # seconds that a child has to save its state


def python_module(name: str) -> tuple[str, ...]:
    """The words that start a module of this package in a Python of its own."""
    return (sys.executable, "-P", "-c", _START, ROOT, name)


class ChildError(Exception):
    """A child ended badly; the message is the last thing it said."""


class Child:
    """A process that adds what it prints to a log; it has to call `end_with_parent`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]):
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # that nobody writes to: it ends with this process
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
        """Asks the process, if it runs, to save its state and end; kills it after a minute."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.wait(_GRACE)
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def run_child(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Runs a `Child` to its end; raises as its `wait`. Ctrl-C stops it, too."""
    child = Child(command, log, environment)
    try:
        child.wait()
    finally:
        child.stop()


def end_with_parent() -> None:
    """Has this process stop, as by SIGTERM, when its standard input ends."""

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
