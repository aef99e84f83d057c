"""Removes what is kept of a source."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tf_dicom_ce.data import store_files
from tf_dicom_ce.intake.file_cache import folder_of, kept_of
from tf_dicom_ce.intake.sources import (
    download_folder,
    is_address,
    unpacked_folder,
    unpacked_name,
)
from tf_dicom_ce.whole_files import sole


class Forgotten(NamedTuple):
    """Numbers of what was removed."""

    headers: int = 0  # files whose headers were kept
    frames: int = 0  # frames in the image store
    copies: int = 0  # folders of files: unpacked archives, and downloads of queries


def forget(source: str) -> Forgotten:
    """Removes what is kept of a source in the user's cache: headers, frames, copies of files.

    Give the source as before: a folder, an archive, or the address of a PACS (all its queries). It
    may no longer exist. Frames are identified by their content: one that another source has, too,
    is removed, and decoded anew for that source.

    Raises:
        UserError: A process uses something of the source.
    """
    if is_address(source):
        place = download_folder(source)
        found = [_forget_copy(folder) for folder in place.glob("*") if folder.is_dir()]
        shutil.rmtree(place, ignore_errors=True)  # with the journals
        return _sum(found)
    path = Path(source)
    contents = {entry for _, entry in kept_of(path) if isinstance(entry, str)}
    copies = [unpacked_folder() / unpacked_name(content) for content in contents]
    found = [_forget_copy(folder) for folder in copies if folder.is_dir()]
    return _sum([_forget_files(path), *found])


def _forget_copy(folder: Path) -> Forgotten:
    """Removes a folder of downloaded or unpacked files, and what is kept of it."""
    with sole(folder, f"{folder}: a download into it is running. Wait for its end, or stop it."):
        found = _forget_files(folder)
        shutil.rmtree(folder)
    return found._replace(copies=1)


def _forget_files(root: Path) -> Forgotten:
    """Removes what is kept of a folder of files, or of an archive."""
    contents: list[tuple[str, str]] = []
    counts: dict[str, int] = {}  # path of each examined file to its number of frames
    for path, entry in kept_of(root):
        if isinstance(entry, str):
            contents.append((path, entry))
        else:
            frames = entry[1] if len(entry) > 2 else 0  # see `intake.examination`
            counts[path] = max(frames, counts.get(path, 0))
    frames = {content: counts.get(path) or 1 for path, content in contents}
    removed = store_files.forget(store_files.default_cache(), frames)
    shutil.rmtree(folder_of(root), ignore_errors=True)
    return Forgotten(len(counts), removed)


def _sum(found: Sequence[Forgotten]) -> Forgotten:
    return Forgotten(*map(sum, zip(*found, strict=True)))
