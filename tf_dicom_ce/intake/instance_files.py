"""Names, writes and checks files of instances that come over a network."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tf_dicom_ce.dicom import part10
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.whole_files import sole

_PART = re.compile(r"[0-9a-f]{62}(\.[0-9a-f]+)?\.part")


def name_of(uid: str) -> str:
    """Returns a digest (64 hex digits) of (0008,0018) SOP Instance UID.

    Paths are printed, so they must not hold identifiers.
    """
    return hashlib.sha256(uid.encode()).hexdigest()


def file_of(folder: Path, name: str) -> Path:
    """Returns the path of an instance; while it is incomplete, its suffix ends in ".part"."""
    return folder / name[:2] / f"{name[2:]}.dcm"


@contextlib.contextmanager
def writing(part: Path) -> Iterator[BinaryIO]:
    """Opens a new private file for writing; at the end it is on the disk (fsync)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o600), "wb") as output:
        yield output
        output.flush()
        os.fsync(output.fileno())


def holds(path: Path, uid: str) -> bool:
    """Tells whether a file is a DICOM file (PS3.10) with this SOP Instance UID."""
    with quiet():
        file = part10.open_regular(path)
        if isinstance(file, Refusal):
            return False
        with file:
            opened = part10.parse(file)
            if isinstance(opened, Refusal):
                return False
            header, meta = opened.header, opened.header.file_meta
            said = header.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")
            return bool(header.preamble) and said == uid


@contextlib.contextmanager
def alone(folder: Path, busy: str) -> Iterator[None]:
    """Makes the folder, locks out other processes, and deletes half-written files."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a network file system without locks
            stack.enter_context(sole(folder, busy))
        for part in folder.glob("??/*.part"):
            if _PART.fullmatch(part.name):
                part.unlink()
        yield
