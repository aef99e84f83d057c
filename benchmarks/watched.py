"""Runs a command of the package and notes what its time went to; a part of `waits`.

    python -P benchmarks/watched.py FILE COMMAND ARGUMENTS…

FILE receives seconds as JSON: `importing` modules, waiting for `workers`, and `tracing`
TensorFlow's graphs, of this process's main thread. Time within another part is that part's.
"""

import builtins
import contextlib
import functools
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_seconds = {"importing": 0.0, "workers": 0.0, "tracing": 0.0}
_busy: list[str] = []


@contextlib.contextmanager
def _part(name: str) -> Iterator[None]:
    if _busy or threading.current_thread() is not threading.main_thread():
        yield
        return
    _busy.append(name)
    start = time.perf_counter()
    try:
        yield
    finally:
        _seconds[name] += time.perf_counter() - start
        _busy.pop()


def _waiting(guarded_map):
    @functools.wraps(guarded_map)
    def watched(*arguments, **named):
        results = guarded_map(*arguments, **named)
        while True:
            with _part("workers"):
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result

    return watched


def _tracing(trace):
    @functools.wraps(trace)
    def watched(*arguments, **named):
        with _part("tracing"):
            return trace(*arguments, **named)

    return watched


#: Module -> its function to watch, and how.
_WATCHED = {
    "tf_dicom_ce.workers": ("guarded_map", _waiting),
    "tensorflow.python.eager.polymorphic_function.tracing_compilation": (
        "_create_concrete_function",
        _tracing,
    ),
}


def watch() -> None:
    """Notes the time of every import from now on, and of what `_WATCHED` has."""
    load = builtins.__import__

    def watched(*arguments, **named):
        with _part("importing"):
            found = load(*arguments, **named)
        for name in [
            name for name in _WATCHED if hasattr(sys.modules.get(name), _WATCHED[name][0])
        ]:
            function, wrap = _WATCHED.pop(name)
            module = sys.modules[name]
            setattr(module, function, wrap(getattr(module, function)))
        return found

    builtins.__import__ = watched


if __name__ == "__main__":
    watch()
    from tf_dicom_ce.cli import main

    try:
        code = main(sys.argv[2:])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(_seconds))
    sys.exit(code)
