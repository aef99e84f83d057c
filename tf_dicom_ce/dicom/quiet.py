"""Silence for libraries whose messages quote patient data."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the warnings and the log of pydicom, which print the values of elements.

    pydicom converts an element when it is first looked at, so every access to a data set belongs
    inside this context, not just the reading.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
