"""Silence for libraries whose messages quote patient data."""

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
    """Suppresses the warnings and the log of pydicom, which print the values of elements.

    pydicom converts an element when it is first looked at, so every access to a data set belongs
    inside this context, not just the reading. Contexts may be nested, which costs next to nothing:
    a loop over many files is faster inside one context of its own.
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
    """Suppresses the logs of these loggers and of those below them."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
