"""Files that are whole at any moment, and private; folders that one process has for itself."""

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tf_dicom_ce.errors import UserError

_user_umask: int | None = None


@contextlib.contextmanager
def private() -> Iterator[None]:
    """What this process makes meanwhile is readable by its user alone: it may show patients."""
    global _user_umask
    before, outer = os.umask(0o077), _user_umask
    _user_umask = before if outer is None else outer
    try:
        yield
    finally:
        os.umask(before)
        _user_umask = outer


@contextlib.contextmanager
def public() -> Iterator[None]:
    """Within `private`: what is made meanwhile, such as a model, is for whom the user allows."""
    if _user_umask is None:
        yield
        return
    now = os.umask(_user_umask)
    try:
        yield
    finally:
        os.umask(now)


@contextlib.contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """Gives a path, of the same suffixes, to write beside `path`; renames it if that went well.

    A reader sees the old file or the new one, never half of it; an error leaves the old one. What
    is private only this user may read (mode 0600), from its first byte on.
    """
    beside = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        if private:
            beside.touch(0o600)
        with named(path):
            yield beside
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on the disk: those of files that were renamed, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_first(beside: Path, path: Path) -> None:
    """Names a whole file `path`, unless there is one: of several processes the first one wins."""
    try:
        path.hardlink_to(beside)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            beside.replace(path)
    beside.unlink(missing_ok=True)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError names what was written, e.g. when the disk is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill beside `folder`, this user's alone, and renames it when it is whole.

    Of two processes that make the same folder the first one wins.
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    beside.mkdir(mode=0o700)
    try:
        with named(folder):
            yield beside
        try:
            beside.replace(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Writes UTF-8; the odd byte of a file name that is not Unicode is shown, not fatal."""
    with replacing(path, private) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping], private: bool = False
) -> None:
    """Writes a CSV: a line of names, then the rows; a row that lacks a column has it empty."""
    like = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}  # see `write_text`
    with replacing(path, private) as beside, beside.open("w", **like) as file:
        csv.DictWriter(file, columns).writeheader()
        _write_rows(file, columns, rows)


def as_csv(columns: Sequence[str], rows: Iterable[Mapping]) -> str:
    """Lines of a CSV that people open in a spreadsheet.

    They end in CR LF (RFC 4180), so that a cell with either is quoted. A text that a spreadsheet
    would take for a formula, as a file's name may be, gets an apostrophe in front.
    """
    text = io.StringIO()
    _write_rows(text, columns, rows)
    return text.getvalue()


def _write_rows(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    harmless = ({name: _harmless(cell) for name, cell in row.items()} for row in rows)
    csv.DictWriter(file, columns).writerows(harmless)


def _harmless(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        with contextlib.suppress(ValueError):
            float(cell)
            return cell
        return f"'{cell}"
    return cell


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON to be read by people, too."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def sole(path: Path, busy: str | None) -> Iterator[None]:
    """Keeps other processes out while the context lasts, however this process ends.

    Args:
        path: The lock's file, whose folder has to exist; or a folder.
        busy: The message of the UserError if another process is in; None waits for its end.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_WRONLY | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            place = path if path.is_dir() else path.parent
            print(f"{place}: no locks on this file system; start nothing twice.", file=sys.stderr)
        yield
    finally:
        os.close(descriptor)
