"""Identifies data by digests of their content, wherever they were moved or copied to."""

import collections
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.decoding import ImageReader, Sample, decode_images
from tf_dicom_ce.intake.examination import Facts
from tf_dicom_ce.intake.file_cache import FileCache, stamps_of


def digests(
    root: Path, paths: list[str], progress: bool = True, source: Path | None = None
) -> dict[str, str]:
    """Returns path to SHA-256 (hex) of the bytes of files below `root`; "" if unreadable.

    A file that has not changed is read only once: the file cache of `source`, by default `root`,
    keeps the digests.
    """

    def find(paths: list[str]) -> Iterator[str]:
        threads = ThreadPoolExecutor(os.cpu_count())  # hashing releases the GIL
        try:
            yield from threads.map(lambda path: _digest(root / path), paths)
        finally:
            threads.shutdown(cancel_futures=True)

    return _kept("contents", source or root, root, paths, find, "Fingerprinting", progress)


def _pixel_digests(reader: ImageReader, frames: Mapping[str, int]) -> dict[str, str]:
    """Returns path to SHA-256 of all decoded frames; `frames` is path to their number."""

    def find(paths: list[str]) -> Iterator[str]:
        images = [Sample(p, row, k) for row, p in enumerate(paths) for k in range(frames[p])]
        decoded = decode_images(reader, images)
        for _, group in itertools.groupby(decoded, key=lambda found: images[found[0]].row):
            yield _pixel_digest(frame for _, frame in group)

    # Decoding shows its own progress bar.
    return _kept("pixels", reader.root, reader.root, list(frames), find, "", progress=False)


def find_copies(
    reader: ImageReader, images: Mapping[str, Facts], progress: bool = True
) -> dict[str, str]:
    """Finds files with the same (0008,0018) SOP Instance UID and pixels, and equal pictures.

    Pixels are decoded only if files with the same UID differ in their bytes; for example, one was
    compressed, or its header was edited.

    Returns:
        Path of each copy to the path of the image that counts, the first in `images`.
    """
    instances = collections.defaultdict(list)
    for path, facts in images.items():
        if facts.is_picture or facts.identity.instance:
            instances[facts.identity.instance].append(path)
    pictures = instances.pop("", [])
    shared = [path for paths in instances.values() if len(paths) > 1 for path in paths]
    contents = digests(reader.root, [*pictures, *shared], progress)
    unlike = {
        path: images[path].frames
        for paths in instances.values()
        if len({contents.get(path) for path in paths}) > 1
        for path in paths
    }
    contents |= {p: f"pixels {d}" for p, d in _pixel_digests(reader, unlike).items() if d}
    firsts: dict[tuple[str, str], str] = {}
    copies = {}
    for path in images:
        if content := contents.get(path):
            first = firsts.setdefault((images[path].identity.instance, content), path)
            if first != path:
                copies[path] = first
    return copies


def _kept(
    kind: str, source: Path, root: Path, paths: list[str], find, title: str, progress: bool
) -> dict:
    cache = FileCache(source, (kind,))
    # An unreadable file may be readable next time.
    return cache.complete(stamps_of(root, paths), find, title, progress, keep=bool)[0]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _pixel_digest(frames: Iterable[Frame | Refusal]) -> str:
    found = hashlib.sha256()
    for frame in frames:
        if isinstance(frame, Refusal):
            return ""
        found.update(f"{frame.pixels.shape}".encode())
        found.update(frame.pixels.tobytes())
    return found.hexdigest()
