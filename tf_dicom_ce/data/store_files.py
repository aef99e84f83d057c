"""The files of a store: which frames it holds, and how they are forgotten; see `store`."""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_dicom_ce.user_folders import cache_folder
from tf_dicom_ce.whole_files import sole

RECORD = np.dtype([("key", "V16"), ("place", "<i4", 6)])


def default_cache() -> Path:
    """The user's cache folder for stores; it can be deleted at any time."""
    return cache_folder() / "store"


class Contents(NamedTuple):
    """What a store holds."""

    number: dict[bytes, int]  # key of every frame to its number, the last one where tried again
    places: np.ndarray  # of these frames, int32 [frames, 6]
    # Number of a frame to code, detail and flags, of those that were refused or flagged.
    told: dict[int, tuple[str, str, list[str]]]


def key_of(content: str, frame: int | None) -> bytes:
    """The key of a frame by the digest of its file; None is the middle one."""
    return hashlib.sha256(json.dumps([content, frame]).encode()).digest()[:16]


def read(folder: Path) -> Contents:
    """What is whole in a store."""
    size, lines = whole(folder), ()
    records = _records(folder, size["frames"])
    if size["frames"]:
        lines = (folder / "told.jsonl").read_bytes()[: size["told"]].splitlines()
    number = {bytes(key): k for k, key in enumerate(records["key"])}
    told = {k: tuple(rest) for k, *rest in map(json.loads, lines)}
    return Contents(number, records["place"], told)


def whole(folder: Path) -> dict[str, int]:
    """How many frames and bytes of told.jsonl are whole."""
    try:
        return json.loads((folder / "whole.json").read_text())
    except FileNotFoundError:
        return {"frames": 0, "told": 0}


@functools.cache
def use(folder: Path) -> None:
    """Keeps frames of a store from being forgotten, until this process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a network file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def forget(stores: Path, frames: Mapping[str, int]) -> int:
    """Blackens frames in all stores and removes their keys. Other sources decode them anew.

    A store of an earlier version, of which it cannot be told what it holds, is removed.

    Args:
        stores: The folder of all stores.
        frames: Digest of the content of each file to its number of frames.

    Returns:
        How many frames there were.

    Raises:
        UserError: A process works with a store that holds some.
    """
    wanted = {key_of(content, k) for content, n in frames.items() for k in (None, *range(n))}
    count = 0
    for folder in stores.iterdir() if stores.is_dir() else ():
        busy = f"{folder}: a training or a prediction works with it. Wait for its end."
        held = whole(folder)
        size = held.get("bytes")
        records = _records(folder, held["frames"]) if size else ()
        numbers = [k for k, (key, _) in enumerate(records) if bytes(key) in wanted]
        if numbers or not size:
            with sole(folder, busy):
                if size:
                    _blacken(folder, numbers, size)
                else:
                    shutil.rmtree(folder)
        count += len(numbers)
    return count


def _records(folder: Path, frames: int) -> np.ndarray:
    return np.fromfile(folder / "frames.bin", RECORD, frames) if frames else np.empty(0, RECORD)


def _blacken(folder: Path, numbers: Sequence[int], size: int) -> None:
    """First the keys, so that no black frame is ever taken for one that is held."""
    for name, each in (("frames.bin", RECORD.itemsize), ("images.bin", size)):
        with (folder / name).open("r+b") as file:
            for number in numbers:
                file.seek(number * each)
                file.write(bytes(each))
            file.flush()
            os.fsync(file.fileno())
