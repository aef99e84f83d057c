"""Files that are whole at any moment, and folders that one process has for itself."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_dicom_ce.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write beside `path`, and renames it where that went well.

    A reader sees the old file or the new one, never half of it; an error leaves the old one.

    Args:
        path: The file. What is written beside has the same suffixes.
    """
    beside = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; the odd byte of a file name that is not Unicode is shown, not fatal."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON to be read by people, too."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def sole(path: Path, busy: str) -> Iterator[None]:
    """Keeps other processes out while the context lasts, however this process ends.

    Args:
        path: The lock's file; its folder has to exist.
        busy: What to say if another process is in.

    Raises:
        UserError: Another process is in.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        yield
