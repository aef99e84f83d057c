"""A decode-once store: all frames at the training size in one memory-mapped file.

A store is a folder named by a hash of what it was made from: every file's path, size and time of
change, the image size and the version of this code. So a changed input has another name, and a
stale store is never taken for the right one. It holds pixels and error codes by row number: no
names, tags or paths.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import platformdirs
import tensorflow as tf

from tf_dicom_ce.data.decoding import decode_images, read_image
from tf_dicom_ce.data.preprocessing import resize
from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal

_VERSION = 1  # raise when reader or resize give other pixels


class File(Protocol):
    """What a store knows of a file: `tf_dicom_ce.intake.index.Row` and `labels.Example` fit."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Store:
    """Frames by row number.

    Attributes:
        images: uint8 memory map [rows, H, W]; rows of refused files are zeros.
        refusals: Refusal by row number, for files whose pixels could not be decoded.
        built: Whether this call decoded the files (False: found ready).
    """

    images: np.ndarray
    refusals: dict[int, Refusal]
    built: bool

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Frames of the given rows, uint8 [n, H, W, 1]."""
        return self.images[rows][..., np.newaxis]


@dataclass(frozen=True)
class DirectReader:
    """Reads and resizes each file at every access; the same interface and pixels as `Store`."""

    paths: tuple[Path, ...]
    image_size: tuple[int, int]
    refusals: dict[int, Refusal]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Frames of the given rows, uint8 [n, H, W, 1].

        Raises:
            RuntimeError: A file that could be decoded at the start no longer can.
        """
        return np.stack([self._read(int(row)) for row in rows])

    def _read(self, row: int) -> np.ndarray:
        frame = read_image(self.paths[row])
        if isinstance(frame, Refusal):
            raise RuntimeError(f"row {row} of the index can no longer be read: {frame.code}")
        return _resized(frame, self.image_size)


def open_direct(
    root: Path, files: Sequence[File], image_size: tuple[int, int], workers: int | None = None
) -> DirectReader:
    """Decodes every file once to learn which cannot be read, and keeps no pixels."""
    paths = tuple(root / file.path for file in files)
    refusals = {k: f for k, f in decode_images(paths, workers) if isinstance(f, Refusal)}
    return DirectReader(paths, image_size, refusals)


def default_cache() -> Path:
    """The user's cache folder for stores; it can be deleted at any time."""
    return platformdirs.user_cache_path("tf-dicom-ce") / "store"


def open_store(
    root: Path,
    files: Sequence[File],
    image_size: tuple[int, int],
    cache: Path,
    workers: int | None = None,
) -> Store:
    """Opens the store of some files at an image size, building it first where there is none.

    Args:
        root: Folder that the files' paths are relative to.
        files: What to decode; their order numbers the rows.
        image_size: Height and width in pixels.
        cache: Folder of all stores.
        workers: Decoding processes; by default one a core.

    Returns:
        The store, its images mapped read-only.
    """
    folder = cache / _key(files, image_size)
    built = not folder.is_dir()
    if built:
        beside = cache / f"{folder.name}.{os.getpid()}.part"
        beside.mkdir(parents=True)
        try:
            _build([root / file.path for file in files], image_size, beside, workers)
            if not folder.is_dir():  # another run may have been faster
                beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    codes = json.loads((folder / "refusals.json").read_text())
    return Store(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        refusals={int(k): Refusal(Code(code), detail) for k, (code, detail) in codes.items()},
        built=built,
    )


def data_fingerprint(files: Sequence[File]) -> str:
    """SHA-256 (hex) over every file's path, size and time of change; names no file."""
    content = [(file.path, file.size, file.mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _key(files: Sequence[File], image_size: tuple[int, int]) -> str:
    content = [_VERSION, image_size, data_fingerprint(files)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _build(
    paths: Sequence[Path], image_size: tuple[int, int], folder: Path, workers: int | None
) -> None:
    images = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.uint8, (len(paths), *image_size)
    )
    refusals = {}
    for k, frame in decode_images(paths, workers):
        if isinstance(frame, Refusal):
            refusals[k] = (frame.code, frame.detail)
        else:
            images[k] = _resized(frame, image_size)[..., 0]
    images.flush()
    (folder / "refusals.json").write_text(json.dumps(refusals))


def _resized(frame: Frame, image_size: tuple[int, int]) -> np.ndarray:
    with tf.device("CPU"):
        return resize(frame.pixels[..., np.newaxis], image_size).numpy().astype(np.uint8)
