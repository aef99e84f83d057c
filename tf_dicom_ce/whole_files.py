"""Files that are whole at any moment, private files, and locks on folders."""

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
    """Within this context, new files are readable by their user alone: they may show patients."""
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
    """Within `private`, undoes it: new files, such as a model, get the user's usual permissions."""
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
    """Gives a temporary path beside `path`, with its suffixes; renames it to `path` on success.

    A reader sees the old file or the new one, never a part; after an error the old file stays. A
    private file has the mode 0600 from its first byte on.
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
    """Moves a whole file to `path`, unless `path` exists: the first of several processes wins."""
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
    """Adds `path` to an OSError that lacks it, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Gives a private temporary folder beside `folder`, and renames it when it is whole.

    If two processes make the same folder, the first one wins.
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
    """Writes UTF-8; bytes of a file name that are not Unicode are escaped."""
    with replacing(path, private) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping], private: bool = False
) -> None:
    """Writes a CSV: a heading, then the rows; a column that a row lacks is empty."""
    like = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}  # see `write_text`
    with replacing(path, private) as beside, beside.open("w", **like) as file:
        csv.DictWriter(file, columns).writeheader()
        _write_rows(file, columns, rows)


def as_csv(columns: Sequence[str], rows: Iterable[Mapping]) -> str:
    """Lines of a CSV for spreadsheets.

    Lines end in CR LF (RFC 4180), and cells that contain CR or LF are quoted. A text that a
    spreadsheet would read as a formula, such as some file names, gets an apostrophe in front.
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
    """Writes `content` as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def sole(path: Path, busy: str | None) -> Iterator[None]:
    """Locks out other processes while the context lasts, however this process ends.

    Args:
        path: The lock's file, whose folder has to exist; or a folder.
        busy: The message of the UserError if another process has the lock; None waits for it.
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
