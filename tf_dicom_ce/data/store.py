"""A decode-once store: all frames at the training size in one memory-mapped file.

A store is a folder named by a hash of what it was made from: the content of every frame's file, the
way it is read, the image size and the version of this code. So data that were moved or unpacked
again find their store, and other data never do, whatever their names, sizes and times. It holds
pixels, flags and codes of errors by row number: no names, tags or paths.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.decoding import Image, ImageReader, decode_images
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.user_folders import cache_folder
from tf_dicom_ce.whole_files import making

_VERSION = 4  # raise when reader or resize give other pixels


@dataclass(frozen=True)
class Store:
    """Frames by row number."""

    images: tf.Tensor  # uint8 [rows, H, W], mapped from the disk; zeros where a file was refused
    places: np.ndarray  # int32 [rows, 6]: the source's rows and columns, the frame's sides
    refusals: dict[int, Refusal]  # by row number, of files whose pixels could not be decoded
    fingerprint: str  # of the data, see `data_fingerprint`
    built: bool  # whether this call decoded the files (False: found ready)
    flags: dict[int, tuple[Flag, ...]] = field(default_factory=dict)  # that decoding alone tells
    at_once: ClassVar[int] = 3  # two compute, one hands over

    def place(self, row: int) -> tuple[tuple[int, int], Region]:
        """Rows and columns of a row's source, and the region of it that the frame is."""
        rows, columns, top, bottom, left, right = self.places[row].tolist()
        return (rows, columns), Region(top, left, bottom - top, right - left)

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """Frames of the given rows (int [n]), uint8 [n, H, W, 1]."""
        with tf.device("CPU"):  # where the images are: a GPU would be given all of them
            return tf.gather(self.images, rows)[..., tf.newaxis]


class DirectReader:
    """Reads and resizes each image at every access; the same interface and pixels as `Store`.

    At first it decodes each once to learn which cannot be read, and keeps no pixels.
    """

    at_once = 1  # a process can hang at its end with several `py_function`

    def __init__(self, reader: ImageReader, images: Sequence[Image], image_size: tuple[int, int]):
        self._reader, self._images, self._image_size = reader, images, image_size
        self.refusals, self.flags = {}, {}
        for _ in _readable(reader, images, self.refusals, self.flags):
            pass
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


#: Frames by row number; `at_once` is how many batches are best prepared at a time.
Frames = Store | DirectReader


def held(images: np.ndarray) -> Store:
    """A store of gray levels that are in memory, uint8 or float32 [rows, H, W]."""
    content = hashlib.sha256(f"{images.dtype} {images.shape}".encode() + images.tobytes())
    height, width = images.shape[1:]
    places = np.tile(np.array([height, width, 0, height, 0, width], np.int32), (len(images), 1))
    with tf.device("CPU"):
        return Store(tf.convert_to_tensor(images), places, {}, content.hexdigest(), built=False)


def default_cache() -> Path:
    """The user's cache folder for stores; it can be deleted at any time."""
    return cache_folder() / "store"


def open_store(
    reader: ImageReader, images: Sequence[Image], image_size: tuple[int, int], cache: Path
) -> Store:
    """Opens the store of images at an image size, building it first where there is none.

    The order of the images numbers the rows; `cache` is the folder of all stores.

    Raises:
        UserError: A file was changed while it was decoded.
    """
    fingerprint = data_fingerprint(reader, images)
    way = (reader.find_sector, reader.blank_outside, sorted(reader.exclude))
    content = json.dumps([_VERSION, image_size, *way, fingerprint])
    folder = cache / hashlib.sha256(content.encode()).hexdigest()[:32]
    built = not folder.is_dir()
    if built:
        with making(folder) as beside:
            _build(reader, images, image_size, beside)
            if data_fingerprint(reader, images) != fingerprint:
                raise UserError(
                    f"{reader.root}: files were changed while they were read. Start again when "
                    "nothing writes to the folder."
                )
    codes = json.loads((folder / "refusals.json").read_text())
    flags = json.loads((folder / "flags.json").read_text())
    return Store(
        images=mapped(folder / "images.npy"),
        places=np.load(folder / "places.npy"),
        refusals={int(k): Refusal(Code(code), detail) for k, (code, detail) in codes.items()},
        fingerprint=fingerprint,
        built=built,
        flags={int(k): tuple(map(Flag, told)) for k, told in flags.items()},
    )


def mapped(file: Path) -> tf.Tensor:
    """The array of a NumPy file as a tensor that the system reads from the disk page by page."""
    array = np.load(file, mmap_mode="c")  # DLPack knows no read-only arrays
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def data_fingerprint(reader: ImageReader, images: Sequence[Image]) -> str:
    """SHA-256 (hex) over the content of the file, and the frame, of every image in order."""
    contents = digests(reader.root, [image.path for image in images])
    content = [(contents[image.path], image.frame) for image in images]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _build(
    reader: ImageReader, images: Sequence[Image], image_size: tuple[int, int], folder: Path
) -> None:
    pixels = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.uint8, (len(images), *image_size)
    )
    places = np.zeros((len(images), 6), np.int32)
    refusals, flags = {}, {}
    for k, frame in _readable(reader, images, refusals, flags):
        pixels[k] = _resized(frame, image_size)[..., 0]
        sides = (end for side in frame.region.slices for end in (side.start, side.stop))
        places[k] = (*frame.source_shape, *sides)
    pixels.flush()
    np.save(folder / "places.npy", places)
    codes = {k: (refusal.code, refusal.detail) for k, refusal in refusals.items()}
    (folder / "refusals.json").write_text(json.dumps(codes))
    (folder / "flags.json").write_text(json.dumps(flags))


def _readable(
    reader: ImageReader,
    images: Sequence[Image],
    refusals: dict[int, Refusal],
    flags: dict[int, tuple[Flag, ...]],
) -> Iterator[tuple[int, Frame]]:
    """Row and frame of what can be read; notes why others cannot, and what decoding told."""
    for k, frame in decode_images(reader, images):
        if isinstance(frame, Refusal):
            refusals[k] = frame
            continue
        if told := tuple(flag for flag in frame.flags if flag.needs_decoding):
            flags[k] = told
        yield k, frame


def _resized(frame: Frame, image_size: tuple[int, int]) -> np.ndarray:
    with tf.device("CPU"):
        return resize(frame.pixels[..., np.newaxis], image_size).numpy().astype(np.uint8)
