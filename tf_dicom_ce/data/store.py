"""A decode-once store: frames at the training size in one memory-mapped file, which only grows.

A store is a folder named by a hash of the reading options, the image size and the version of this
code. It holds frames by key, a hash of the file's content and of the frame's number. So frames are
found again after files were moved or unpacked anew, and only new files are decoded. Names, sizes
and times of files do not matter.

    images.bin   uint8, height × width bytes per frame; zeros for a refused file
    frames.bin   one record per frame: its key and place
    told.jsonl   one line per refused or flagged frame: number, code, detail, flags
    whole.json   sizes of the complete parts of these files, and the bytes of a frame; written last,
                 the rest is overwritten

A store holds no names, tags or paths.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import tensorflow as tf

from tf_dicom_ce.data.store_files import RECORD, Contents, key_of, read, use, whole
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.decoding import Image, ImageReader, decode_images
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.whole_files import named, sole, write_json

_VERSION = 5  # raise it when reader or resize give other pixels
_COMMIT = 2048  # most frames that are lost if a process ends


@dataclass(frozen=True)
class Store:
    """Frames by row number."""

    images: tf.Tensor  # uint8 [frames, H, W], mapped from the disk
    numbers: np.ndarray  # of each row's frame in `images`, int64 [rows]
    places: np.ndarray  # int32 [rows, 6]: the source's rows and columns, the frame's sides
    refusals: dict[int, Refusal]  # by row number, of files whose pixels could not be decoded
    fingerprint: str  # of the data, see `data_fingerprint`
    decoded: int = 0  # number of frames that this call decoded
    flags: dict[int, tuple[Flag, ...]] = field(
        default_factory=dict
    )  # flags given by decoding, by row
    at_once: ClassVar[int] = 3  # two batches compute while one is passed on

    def place(self, row: int) -> tuple[tuple[int, int], Region]:
        """Rows and columns of a row's source image, and the region that the frame shows."""
        rows, columns, top, bottom, left, right = self.places[row].tolist()
        return (rows, columns), Region(top, left, bottom - top, right - left)

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """Frames of the given rows (int [n]), uint8 [n, H, W, 1]."""
        with tf.device("CPU"):  # a GPU would get a copy of all images
            return tf.gather(self.images, tf.gather(self.numbers, rows))[..., tf.newaxis]


class DirectReader:
    """Reads and resizes each image at every access; the same interface and pixels as `Store`.

    At the start it decodes every image once to find those that cannot be read, and keeps no pixels.
    """

    at_once = 1  # with several `py_function`s a process may hang at its end

    def __init__(self, reader: ImageReader, images: Sequence[Image], image_size: tuple[int, int]):
        self._reader, self._images, self._image_size = reader, images, image_size
        self.refusals, self.flags = {}, {}
        for k, found in decode_images(reader, images):
            if isinstance(found, Refusal):
                self.refusals[k] = found
            elif told := _flags(found):
                self.flags[k] = told
        self.fingerprint = data_fingerprint(reader, images)

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """Frames of the given rows (int [n]), uint8 [n, H, W, 1].

        Raises:
            tf.errors.UnknownError: A file that could be decoded at the start no longer can.
        """
        rows = tf.convert_to_tensor(rows)
        frames = tf.py_function(
            lambda rows: np.stack([self._decode(int(row)) for row in rows]), [rows], tf.uint8
        )
        return tf.ensure_shape(frames, (*rows.shape, *self._image_size, 1))

    def _decode(self, row: int) -> np.ndarray:
        image = self._images[row]
        (frame,) = self._reader.read(image.path, [image.frame])
        if isinstance(frame, Refusal):
            raise RuntimeError(f"row {row} of the index can no longer be read: {frame.code}")
        return _resized(frame, self._image_size)


#: Frames by row number; `at_once` is the best number of batches to prepare at a time.
Frames = Store | DirectReader


def held(images: np.ndarray) -> Store:
    """A store of gray levels in memory, uint8 or float32 [rows, H, W]."""
    content = hashlib.sha256(f"{images.dtype} {images.shape}".encode() + images.tobytes())
    height, width = images.shape[1:]
    places = np.tile(np.array([height, width, 0, height, 0, width], np.int32), (len(images), 1))
    with tf.device("CPU"):
        images = tf.convert_to_tensor(images)
    return Store(images, np.arange(len(places)), places, {}, content.hexdigest())


def open_store(
    reader: ImageReader, images: Sequence[Image], image_size: tuple[int, int], cache: Path
) -> Store:
    """Opens the store for images at an image size; first decodes images that are missing in it.

    Rows are numbered in the order of the images. `cache` is the folder of all stores. If several
    processes call this, one decodes and the others wait.

    Raises:
        UserError: A file was changed while it was decoded.
    """
    contents = digests(reader.root, [image.path for image in images])
    keys = [key_of(contents[image.path], image.frame) for image in images]
    way = (reader.find_sector, reader.blank_outside, sorted(reader.exclude))
    content = json.dumps([_VERSION, image_size, *way])
    folder = cache / hashlib.sha256(content.encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    use(folder)
    found, decoded = read(folder), 0
    if _missing(keys, found):
        with _alone(folder):
            missing = _missing(keys, read(folder))  # another process may have decoded some
            _append(folder, reader, [images[k] for k in missing], image_size, contents)
            decoded = len(missing)
        found = read(folder)
    count = whole(folder)["frames"]
    _require_whole(folder, count, image_size)
    numbers = np.array([found.number[key] for key in keys])
    rows = {k: found.told[n] for k, n in enumerate(numbers.tolist()) if n in found.told}
    return Store(
        images=mapped(folder / "images.bin", (count, *image_size)),
        numbers=numbers,
        places=found.places[numbers],
        refusals={k: Refusal(Code(code), detail) for k, (code, detail, _) in rows.items() if code},
        fingerprint=_fingerprint(contents, images),
        decoded=decoded,
        flags={k: tuple(map(Flag, flags)) for k, (_, _, flags) in rows.items() if flags},
    )


def mapped(file: Path, shape: tuple[int, int, int]) -> tf.Tensor:
    """A file as a uint8 tensor, which the system reads from the disk page by page."""
    array = np.memmap(file, np.uint8, "c", shape=shape)  # DLPack knows no read-only arrays
    return tf.experimental.dlpack.from_dlpack(np.asarray(array).__dlpack__())


def data_fingerprint(reader: ImageReader, images: Sequence[Image]) -> str:
    """SHA-256 (hex) over file content and frame number of all images in order."""
    return _fingerprint(digests(reader.root, [image.path for image in images]), images)


def _fingerprint(contents: Mapping[str, str], images: Sequence[Image]) -> str:
    content = [(contents[image.path], image.frame) for image in images]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _missing(keys: Sequence[bytes], held: Contents) -> list[int]:
    """First place in `keys` of every key that is missing, or was refused for a passing cause."""
    passing = {n for n, (code, *_) in held.told.items() if code and Code(code).may_pass}
    first = {}
    for k, key in enumerate(keys):
        number = held.number.get(key)
        if number is None or number in passing:
            first.setdefault(key, k)
    return list(first.values())


def _require_whole(folder: Path, count: int, image_size: tuple[int, int]) -> None:
    for name, size in (
        ("images.bin", image_size[0] * image_size[1]),
        ("frames.bin", RECORD.itemsize),
    ):
        if (folder / name).stat().st_size < count * size:
            raise UserError(f"{folder / name} is damaged. Delete {folder}; it will be made anew.")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks the store against other writers; waits for a process that is writing."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole(folder / ".lock", "busy"))
        except UserError:
            print("Store: another process is decoding; waiting for it.", file=sys.stderr)
            stack.enter_context(sole(folder / ".lock", None))
        yield


def _append(
    folder: Path,
    reader: ImageReader,
    images: Sequence[Image],
    image_size: tuple[int, int],
    contents: Mapping[str, str],
) -> None:
    """Decodes images, whose files have the digests `contents`, and appends them to a store.

    Decoded frames are kept from each commit on, even if the process ends after it.
    """
    before = whole(folder)
    height, width = image_size
    files = zip(
        ("images.bin", "frames.bin", "told.jsonl"),
        (before["frames"] * height * width, before["frames"] * RECORD.itemsize, before["told"]),
        strict=True,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(named(folder))
        pixels, records, lines = (
            stack.enter_context(_opened(folder / name, end)) for name, end in files
        )
        for k, found in decode_images(reader, images):
            told, place, frame = ("", "", ()), np.zeros(6, np.int32), np.zeros(image_size, np.uint8)
            if isinstance(found, Refusal):
                told = (found.code, found.detail, ())
            else:
                frame = _resized(found, image_size)[..., 0]
                sides = (end for side in found.region.slices for end in (side.start, side.stop))
                place[:] = (*found.source_shape, *sides)
                told = ("", "", _flags(found))
            pixels.write(frame.tobytes())
            key = key_of(contents[images[k].path], images[k].frame)
            records.write(np.array([(key, place)], RECORD).tobytes())
            if any(told):
                lines.write(json.dumps([before["frames"] + k, *told]).encode() + b"\n")
            if (k + 1) % _COMMIT == 0 or k + 1 == len(images):
                _require_unchanged(
                    reader, images[k + 1 - _COMMIT if k >= _COMMIT else 0 : k + 1], contents
                )
                for file in (pixels, records, lines):
                    file.flush()
                    os.fsync(file.fileno())
                new = {"frames": before["frames"] + k + 1, "told": lines.tell()}
                new["bytes"] = height * width
                write_json(folder / "whole.json", new)


def _opened(path: Path, end: int) -> BinaryIO:
    """Opens a file to write from `end` on; truncates it there."""
    path.touch(0o600)
    file = path.open("r+b")
    file.truncate(end)
    file.seek(end)
    return file


def _require_unchanged(
    reader: ImageReader, images: Sequence[Image], contents: Mapping[str, str]
) -> None:
    now = digests(reader.root, [image.path for image in images], progress=False)
    if any(contents[path] != content for path, content in now.items()):
        raise UserError(
            f"{reader.root}: files changed while they were read. Start again when no program "
            "writes to the folder."
        )


def _flags(frame: Frame) -> tuple[Flag, ...]:
    """The flags that only decoding gives."""
    return tuple(flag for flag in frame.flags if flag.needs_decoding)


def _resized(frame: Frame, image_size: tuple[int, int]) -> np.ndarray:
    with tf.device("CPU"):
        return resize(frame.pixels[..., np.newaxis], image_size).numpy().astype(np.uint8)
