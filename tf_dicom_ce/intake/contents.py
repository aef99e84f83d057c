"""Digests of what files hold: data that were moved, copied or unpacked again are the same data."""

import functools
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.decoding import ImageReader, decode_images
from tf_dicom_ce.intake.file_cache import FileCache, Stamp, default_file_cache, stamp_of
from tf_dicom_ce.intake.secret import load_secret


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


def pixel_digests(reader: ImageReader, frames: Mapping[str, int]) -> dict[str, str]:
    """SHA-256 of all frames of files as they are decoded; a file that has not changed is read once.

    Args:
        reader: How files become frames.
        frames: Path to its number of frames.

    Returns:
        Path to digest, hex. A file with a frame that cannot be read has an empty one.
    """

    def find(paths: list[str]) -> Iterator[str]:
        images = [_Frame(path, k) for path in paths for k in range(frames[path])]
        decoded = decode_images(reader, images)
        for _, group in itertools.groupby(decoded, key=lambda found: images[found[0]].path):
            yield _pixel_digest(frame for _, frame in group)

    # Decoding shows a bar of its own.
    return _kept("pixels", reader.root, list(frames), find, "", progress=False)


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


class _Frame(NamedTuple):
    path: str
    frame: int


def _pixel_digest(frames: Iterable[Frame | Refusal]) -> str:
    found = hashlib.sha256()
    for frame in frames:
        if isinstance(frame, Refusal):
            return ""
        found.update(f"{frame.pixels.shape}".encode())
        found.update(frame.pixels.tobytes())
    return found.hexdigest()
