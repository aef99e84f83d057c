"""Keeps facts about files between runs, so that unchanged files are not read again.

Each source has a folder, with one SQLite database per kind of facts. They hold tag values and
paths, so only the user can read them. The former facts of a changed file are kept, too: `forget`
needs them.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.progress import Bar
from tf_dicom_ce.user_folders import cache_folder

Stamp = tuple[int, int, int]
"""Size, time of the last change of the content, and of the last change at all (ns).

`unzip`, `tar` and `rsync` copy the second from elsewhere; no tool can set the third.
"""

_SAVE_EVERY = 500
_PATIENCE = 3.0  # seconds to wait for another process
# A path may be any bytes; a stamp may need more than SQLite's 64 bits.
_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(path BLOB, stamp TEXT, entry TEXT, PRIMARY KEY (path, stamp))"
)
_INSERT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)"


def stamp_of(status: os.stat_result) -> Stamp:
    """Returns the stamp of a file."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stamps_of(root: Path, paths: Iterable[str]) -> dict[str, Stamp]:
    """Returns path to stamp; an inaccessible file gets a stamp that no file has."""
    stamps = dict.fromkeys(paths, (-1, -1, -1))
    for path in stamps:
        with contextlib.suppress(OSError):
            stamps[path] = stamp_of((root / path).stat())
    return stamps


def folder_of(source: Path, folder: Path | None = None) -> Path:
    """Returns the folder of all facts about a source's files."""
    name = pseudonym(load_secret(), "source", str(source.resolve()))
    return (folder or cache_folder() / "files") / name


def kept_of(source: Path) -> Iterator[tuple[str, Any]]:
    """Yields path and entry of all facts about a source's files, present and former."""
    for path in folder_of(source).glob("*.sqlite"):
        with (
            contextlib.suppress(sqlite3.Error, ValueError),
            contextlib.closing(sqlite3.connect(path, _PATIENCE)) as database,
        ):
            for key, entry in database.execute("SELECT path, entry FROM entries"):
                yield os.fsdecode(key), json.loads(entry)


class FileCache:
    """Entries by path; an entry is valid while its file has the same stamp.

    Args:
        source: The folder or archive of the files.
        identity: What the entries depend on besides: their kind, and the rules of reading.
        folder: Folder of the database, by default in the user's cache. It can be deleted at any
            time. The database's path has pseudonyms of `source` and `identity`.
    """

    def __init__(self, source: Path, identity: tuple[str, ...], folder: Path | None = None):
        name = pseudonym(load_secret(), "file cache", json.dumps(identity))
        self._path = folder_of(source, folder) / f"{name}.sqlite"
        self._is_usable = True

    def complete(
        self,
        stamps: Mapping[str, Stamp],
        find: Callable[[list[str]], Iterator[Any]],
        title: str,
        progress: bool = True,
        keep: Callable[[Any], bool] = lambda entry: True,
        read: Callable[[Any], Any] = lambda entry: entry,
    ) -> tuple[dict[str, Any], int]:
        """Looks up known entries, finds the others, and keeps them as they come.

        Args:
            stamps: Path to stamp of all files.
            find: Yields the entries of paths, in order, as plain JSON values.
            title: Title of the progress bar.
            progress: Shows a `Bar`.
            keep: Tells whether a new entry may be kept.
            read: Turns an entry into the value to return.

        Returns:
            Path to the value, for all files; and how many entries are new.
        """
        entries = self.load(stamps, read)
        paths = [path for path in stamps if path not in entries]
        unsaved: list[tuple[str, Stamp, Any]] = []
        with Bar(bool(progress and paths)) as bar:
            found = zip(paths, find(paths), strict=True)
            try:
                for path, entry in bar.track(found, len(paths), description=title):
                    entries[path] = read(entry)
                    if keep(entry):
                        unsaved.append((path, stamps[path], entry))
                    if len(unsaved) >= _SAVE_EVERY:
                        self.append(unsaved)
                        unsaved = []
            finally:
                self.append(unsaved)
        return entries, len(paths)

    def load(
        self, stamps: Mapping[str, Stamp], read: Callable[[Any], Any] = lambda entry: entry
    ) -> dict[str, Any]:
        """Returns path to value, for the files that still have the stamp of their entry."""
        entries: dict[str, Any] = {}

        def look_up(database: sqlite3.Connection) -> None:
            for key, stamp, entry in database.execute("SELECT * FROM entries"):
                path = os.fsdecode(key)
                if path in stamps and stamp == str(stamps[path]):
                    entries[path] = read(json.loads(entry))

        if self._path.exists():
            self._transact(look_up)
        return entries

    def append(self, rows: Sequence[tuple[str, Stamp, Any]]) -> None:
        """Adds rows of path, stamp and entry; entries are plain JSON values."""
        if not rows or not self._is_usable:
            return
        for folder in (self._path.parent.parent, self._path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives its journal the mode of the database.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        values = [(os.fsencode(path), str(stamp), json.dumps(entry)) for path, stamp, entry in rows]
        self._transact(lambda database: database.executemany(_INSERT, values))

    def _transact(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Works on the database; no longer writes to an unusable one, and deletes a broken one."""
        try:
            with contextlib.closing(sqlite3.connect(self._path, _PATIENCE)) as database, database:
                # A killed run breaks nothing; after a power failure entries are found anew.
                database.execute("PRAGMA synchronous = OFF")
                database.execute(_TABLE)
                work(database)
        except sqlite3.OperationalError:  # locked for long, or the disk is full
            self._is_usable = False
        except (sqlite3.DatabaseError, ValueError):
            for broken in (self._path, self._path.with_suffix(".sqlite-journal")):
                broken.unlink(missing_ok=True)
