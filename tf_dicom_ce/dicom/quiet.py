"""Silences libraries whose messages quote patient data."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

_lock = threading.Lock()
_depth = 0
_active = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses pydicom's warnings and log, which print values of elements.

    pydicom converts an element at its first use: put every access to a data set inside this
    context, not just the reading. Contexts may be nested at almost no cost. Put a loop over many
    files inside a context of its own: it is then faster.
    """
    global _depth
    with _lock:
        if _depth == 0:
            _active.enter_context(muted("pydicom", "highdicom"))
            _active.enter_context(warnings.catch_warnings(action="ignore"))
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _active.close()


@contextlib.contextmanager
def muted(*names: str) -> Iterator[None]:
    """Suppresses the logs of these loggers and of their children."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
