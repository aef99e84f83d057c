"""Records answers, one line each: who asked which model about which study."""

import datetime
import errno
import getpass
import json
import os
from collections.abc import Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.whole_files import named


def user_name() -> str:
    """Returns the name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"uid {os.getuid()}"


class AuditLog:
    """A private file of JSON lines that only grows; several processes may write it.

    A line has `time` (UTC, ISO 8601), `who`, `study` (pseudonym of the Study Instance UID, or ""),
    `model` (name, version and digest of its weights) and `results`, the SOP Instance UIDs of the
    DICOM results.
    """

    def __init__(self, path: Path):
        """Opens the file, or makes it; UserError if it cannot be written."""
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise UserError(
                f"--audit-log {path}: {error.strerror}. Choose a file that you can write."
            ) from None

    def add(self, who: str, study: str, model: Model, results: Sequence[str]) -> None:
        """Writes a line; it is then on the disk (fsync), or an OSError is raised."""
        content = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "who": who,
            "study": study,
            "model": {k: getattr(model, k) for k in ("name", "version", "weights_digest")},
            "results": list(results),
        }
        line = json.dumps(content).encode() + b"\n"
        with named(self._path):
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
