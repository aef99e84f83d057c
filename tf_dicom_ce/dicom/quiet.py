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
            _active.enter_context(_silence())
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _active.close()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
