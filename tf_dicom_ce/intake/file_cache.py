"""What was found out about files, kept between runs so that unchanged files are not read again.

A folder a source, and in it a SQLite database a kind of knowledge. They hold tag values and paths,
so that they are readable by their user alone. Of a file that changed they keep what was known of it
before, by which it can be forgotten.
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

`unzip`, `tar` and `rsync` set the second to what it was elsewhere; the third none can set.
"""

_SAVE_EVERY = 500
_PATIENCE = 3.0  # seconds for another process to end its turn
# A path is any bytes; a stamp may need more than SQLite's 64 bits.
_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(path BLOB, stamp TEXT, entry TEXT, PRIMARY KEY (path, stamp))"
)
_INSERT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)"


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stamps_of(root: Path, paths: Iterable[str]) -> dict[str, Stamp]:
    """Path to stamp, each once; of a file that cannot be looked at one that no file has."""
    stamps = dict.fromkeys(paths, (-1, -1, -1))
    for path in stamps:
        with contextlib.suppress(OSError):
            stamps[path] = stamp_of((root / path).stat())
    return stamps


def folder_of(source: Path, folder: Path | None = None) -> Path:
    """Where everything that is kept of a source's files lies."""
    name = pseudonym(load_secret(), "source", str(source.resolve()))
    return (folder or cache_folder() / "files") / name


def kept_of(source: Path) -> Iterator[tuple[str, Any]]:
    """Path and entry of all that is kept of a source's files, as they are and as they were."""
    for path in folder_of(source).glob("*.sqlite"):
        with (
            contextlib.suppress(sqlite3.Error, ValueError),
            contextlib.closing(sqlite3.connect(path, _PATIENCE)) as database,
        ):
            for key, entry in database.execute("SELECT path, entry FROM entries"):
                yield os.fsdecode(key), json.loads(entry)


class FileCache:
    """Entries by path, each valid while the file has the same stamp.

    `source` is the folder or archive that they are of, and `identity` what they depend on besides:
    their kind, and the rules of reading. Of both there are pseudonyms in the database's path. It
    lies in the user's cache folder, unless another is given, and can be deleted at any time.
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
        """Looks up what is known, finds out the rest, and keeps it as it comes.

        `find` gives the entries of paths, in order, as plain JSON values; `keep` tells whether a
        new one may be kept, `read` makes of one what is held in memory. `progress` shows it, see
        `Bar`.

        Returns:
            Path to what `read` makes of the entry, of all files; and how many were found out anew.
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
        """Path to entry, of the files whose stamp is the one that the entry was made at."""
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
        """Adds (path, stamp, entry), the entries as plain JSON values."""
        if not rows or not self._is_usable:
            return
        for folder in (self._path.parent.parent, self._path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives its journal the mode of the database.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        values = [(os.fsencode(path), str(stamp), json.dumps(entry)) for path, stamp, entry in rows]
        self._transact(lambda database: database.executemany(_INSERT, values))

    def _transact(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """What cannot be used is done without from then on; what is broken is removed."""
        try:
            with contextlib.closing(sqlite3.connect(self._path, _PATIENCE)) as database, database:
                # A killed run breaks nothing; what a power failure breaks is made anew.
                database.execute("PRAGMA synchronous = OFF")
                database.execute(_TABLE)
                work(database)
        except sqlite3.OperationalError:  # locked for long, or the disk is full
            self._is_usable = False
        except (sqlite3.DatabaseError, ValueError):
            for broken in (self._path, self._path.with_suffix(".sqlite-journal")):
                broken.unlink(missing_ok=True)
