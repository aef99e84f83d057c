"""What headers said, kept between runs so that unchanged files are not read again.

One file a source, sealed with the user's secret (AES and HMAC by `cryptography`'s Fernet): it
holds tag values and paths, and nobody without the secret reads them. It is a log of chunks, each
sealed by itself and added at one go; what a killed run leaves is a whole log, or one whose last
line is broken and is left out.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs
from cryptography.fernet import Fernet, InvalidToken

from tf_dicom_ce.intake.secret import pseudonym, sealing_key

Stamp = tuple[int, int]
"""Size and time of the last change (ns)."""


def default_header_cache() -> Path:
    """The user's cache folder; it can be deleted at any time."""
    return platformdirs.user_cache_path("tf-dicom-ce") / "headers"


class HeaderCache:
    """Entries by path, each valid while the file's size and time of change are the same.

    Args:
        folder: Of all caches.
        identity: What the entries depend on beside the files: source and rules of reading.
        secret: The user's secret.
    """

    def __init__(self, folder: Path, identity: tuple[str, ...], secret: bytes):
        self._path = folder / f"{pseudonym(secret, 'header cache', json.dumps(identity))}.log"
        self._seal = Fernet(sealing_key(secret))

    def load(self) -> dict[str, tuple[Stamp, Any]]:
        """Path to stamp and entry; the newest where there are several."""
        entries: dict[str, tuple[Stamp, Any]] = {}
        if self._path.exists():
            for line in self._path.read_bytes().splitlines():
                try:
                    chunk = json.loads(self._seal.decrypt(line))
                except InvalidToken:
                    continue
                for path, size, mtime_ns, entry in chunk:
                    entries[path] = ((size, mtime_ns), entry)
        return entries

    def append(self, chunk: Iterable[tuple[str, Stamp, Any]]) -> None:
        """Adds (path, stamp, entry), the entries as plain JSON values."""
        rows = [(path, *stamp, entry) for path, stamp, entry in chunk]
        if not rows:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = self._seal.encrypt(json.dumps(rows, separators=(",", ":")).encode())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # A line break first: what a killed run left stays a line of its own.
        with os.fdopen(os.open(self._path, flags, 0o600), "ab", buffering=0) as file:
            file.write(b"\n" + token + b"\n")
