"""Digests of what files hold: data that were moved, copied or unpacked again are the same data."""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.file_cache import FileCache, Stamp, default_file_cache, stamp_of
from tf_dicom_ce.intake.secret import load_secret
from tf_dicom_ce.workers import guarded_map

_FRAMES_AT_ONCE = 8


def digests(root: Path, paths: list[str], progress: bool = True) -> dict[str, str]:
    """SHA-256 of the bytes of files; a file that has not changed is read once.

    Args:
        root: Folder that the paths are relative to.
        paths: The files.
        progress: Shows a bar on standard error.

    Returns:
        Path to digest, hex. A file that cannot be read has an empty one.
    """
    find = functools.partial(_each_digest, root)
    return _kept("contents", root, paths, find, "Fingerprinting", progress)


def pixel_digests(reader: ImageReader, frames: Mapping[str, int], progress: bool) -> dict[str, str]:
    """SHA-256 of all frames of files as they are decoded.

    Args:
        reader: How files become frames.
        frames: Path to its number of frames.
        progress: Shows a bar on standard error.

    Returns:
        Path to digest, hex. A file with a frame that cannot be read has an empty one.
    """

    def find(paths: list[str]) -> Iterator[str]:
        items = [(path, frames[path]) for path in paths]
        one = functools.partial(_pixel_digest, reader)
        return guarded_map(one, items, lambda loss: "", chunk=1)

    return _kept("pixels", reader.root, list(frames), find, "Comparing copies", progress)


def _kept(kind: str, root: Path, paths: list[str], find, title: str, progress: bool) -> dict:
    cache = FileCache(default_file_cache(), (kind, str(root.resolve())), load_secret())
    stamps = {path: _stamp(root / path) for path in dict.fromkeys(paths)}
    # What cannot be read now may be readable the next time.
    return cache.complete(stamps, find, title, progress, keep=bool)[0]


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path.stat())
    except OSError:
        return (-1, -1, -1)


def _each_digest(root: Path, paths: list[str]) -> Iterator[str]:
    with ThreadPool(os.cpu_count()) as pool:  # hashing lets go of the interpreter
        yield from pool.imap(lambda path: _digest(root / path), paths)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _pixel_digest(reader: ImageReader, item: tuple[str, int]) -> str:
    path, count = item
    found = hashlib.sha256()
    for start in range(0, count, _FRAMES_AT_ONCE):
        for frame in reader.read(path, range(start, min(start + _FRAMES_AT_ONCE, count))):
            if isinstance(frame, Refusal):
                return ""
            found.update(f"{frame.pixels.shape}".encode())
            found.update(frame.pixels.tobytes())
    return found.hexdigest()
