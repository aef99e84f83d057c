"""What was found out about files, kept between runs so that unchanged files are not read again.

One file a source and kind of knowledge, sealed with the user's secret (AES and HMAC by
`cryptography`'s Fernet): it holds tag values and paths, and nobody without the secret reads them.
It is a log of chunks, each sealed by itself and added at one go; what a killed run leaves is a
whole log, or one whose last line is broken and is left out.
"""

import base64
import contextlib
import hmac
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
from cryptography.fernet import Fernet, InvalidToken
from rich.console import Console
from rich.progress import Progress

from tf_dicom_ce.intake.secret import pseudonym

Stamp = tuple[int, int, int]
"""Size, time of the last change of the content, and of the last change at all (ns).

`unzip`, `tar` and `rsync` set the second to what it was elsewhere; the third none can set.
"""

_SAVE_EVERY = 500


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


def default_file_cache() -> Path:
    """The user's cache folder; it can be deleted at any time."""
    return platformdirs.user_cache_path("tf-dicom-ce") / "files"


class FileCache:
    """Entries by path, each valid while the file has the same stamp.

    Args:
        folder: Of all caches.
        identity: What the entries depend on beside the files: their kind, the source and the rules
            of reading.
        secret: The user's secret.
    """

    def __init__(self, folder: Path, identity: tuple[str, ...], secret: bytes):
        self._path = folder / f"{pseudonym(secret, 'file cache', json.dumps(identity))}.log"
        key = hmac.digest(secret, b"file cache", "sha256")
        self._seal = Fernet(base64.urlsafe_b64encode(key))

    def complete(
        self,
        stamps: Mapping[str, Stamp],
        find: Callable[[list[str]], Iterator[Any]],
        title: str,
        progress: bool = True,
        keep: Callable[[Any], bool] = lambda entry: True,
    ) -> tuple[dict[str, Any], int]:
        """Looks up what is known, finds out the rest, and keeps it as it comes.

        Args:
            stamps: Of all files that are asked for.
            find: Paths to their entries, in order: plain JSON values.
            title: Of the progress bar.
            progress: Shows it where standard error is a terminal.
            keep: Tells of a new entry whether it may be kept.

        Returns:
            Path to entry, of all files; and how many were found out anew.
        """
        entries = self.load(stamps)
        paths = [path for path in stamps if path not in entries]
        unsaved: list[tuple[str, Stamp, Any]] = []
        console = Console(stderr=True)
        shown = progress and paths and console.is_terminal  # elsewhere it is a blank line
        with Progress(console=console, transient=True, disable=not shown) as bar:
            found = zip(paths, find(paths), strict=True)
            try:
                for path, entry in bar.track(found, len(paths), description=title):
                    entries[path] = entry
                    if keep(entry):
                        unsaved.append((path, stamps[path], entry))
                    if len(unsaved) >= _SAVE_EVERY:
                        self.append(unsaved)
                        unsaved = []
            finally:
                self.append(unsaved)
        return entries, len(paths)

    def load(self, stamps: Mapping[str, Stamp]) -> dict[str, Any]:
        """Path to entry, of the files whose stamp is the one that the entry was made at."""
        entries: dict[str, Any] = {}
        for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
            with contextlib.suppress(InvalidToken):
                for path, stamp, entry in json.loads(self._seal.decrypt(line)):
                    if stamps.get(path) == tuple(stamp):
                        entries[path] = entry
        return entries

    def append(self, rows: Sequence[tuple[str, Stamp, Any]]) -> None:
        """Adds (path, stamp, entry), the entries as plain JSON values."""
        if not rows:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = self._seal.encrypt(json.dumps(rows, separators=(",", ":")).encode())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # A line break first: what a killed run left stays a line of its own.
        with os.fdopen(os.open(self._path, flags, 0o600), "ab", buffering=0) as file:
            file.write(b"\n" + token + b"\n")
