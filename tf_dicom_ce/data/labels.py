"""Labels CSV to examples: an image, its class or mask, its patient, and perhaps its split."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tf_dicom_ce.errors import UserError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Example:
    """One row of the labels CSV.

    Attributes:
        where: File and line, for messages.
        path: The image, relative to the data folder; `./0.png` is `0.png`.
        frame: Of a cine, from 0; None for the middle one.
        target: Class (classification) or mask relative to the data folder (segmentation).
        patient: As in the column `patient`; empty where that says nothing.
        split: `train`, `validation`, `test`, or None where there is no such column.
    """

    where: str
    path: str
    frame: int | None
    target: str
    patient: str
    split: str | None


def read_labels(path: Path, data: Path, target: str) -> tuple[Example, ...]:
    """Reads a labels CSV and checks it against the data folder.

    Args:
        path: The CSV: column `path`, column `target`, optional `frame`, `patient` and `split`.
        data: Folder that `path` (and `mask`) are relative to.
        target: `label` or `mask`.

    Returns:
        The examples whose target is filled in, in the order of the CSV.

    Raises:
        UserError: A missing file or column, an unknown split, or an image twice; the message names
            the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(f"{path.name}, line {reader.line_num}", row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--labels {path}: cannot be read ({type(error).__name__}).") from None
    for column in ("path", target):
        if column not in columns:
            raise UserError(
                f"--labels {path}: no column '{column}'. It has: {', '.join(columns) or 'none'}."
            )
    examples = tuple(_example(where, row, data, target) for where, row in rows if row[target])
    if not examples:
        raise UserError(f"--labels {path}: no row has a {target}.")
    if len({example.split is None for example in examples}) == 2:
        raise UserError(f"--labels {path}: 'split' is filled in for some rows only.")
    _check_unique(examples)
    return examples


def _example(where: str, row: dict, data: Path, target: str) -> Example:
    image, mask = os.path.normpath(row["path"]), target == "mask"
    for name in (image, *([row[target]] if mask else [])):
        if not (data / name).is_file():
            raise UserError(f"{where}: no file '{name}' in {data}.")
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise UserError(f"{where}: split '{split}' is none of {', '.join(SPLITS)}.")
    frame = row.get("frame") or None
    if frame is not None and not frame.isdecimal():
        raise UserError(f"{where}: frame '{frame}' is not a number from 0.")
    return Example(
        where,
        image,
        None if frame is None else int(frame),
        row[target],
        (row.get("patient") or "").strip(),
        SPLITS.get(split),
    )


def _check_unique(examples: tuple[Example, ...]) -> None:
    images: dict[tuple, Example] = {}
    for example in examples:
        first = images.setdefault((example.path, example.frame), example)
        if first is not example:
            raise UserError(f"{example.where}: '{example.path}' stands in {first.where} already.")


def class_labels(
    examples: tuple[Example, ...], order: tuple[str, ...] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the classes, and the class of every example.

    Args:
        examples: With class names or integers as targets.
        order: Names in their order; None takes integers by size and names by the alphabet.

    Returns:
        Names, and int32 [N].

    Raises:
        UserError: A class that `order` does not name; the message names the line.
    """
    names = order
    if names is None:
        found = {example.target for example in examples}
        integers = all(name.lstrip("-").isdecimal() for name in found)
        names = tuple(sorted(found, key=int if integers else str))
    number = {name: k for k, name in enumerate(names)}
    for example in examples:
        if example.target not in number:
            raise UserError(
                f"{example.where}: unknown class '{example.target}'. Known: {', '.join(names)}."
            )
    return names, np.array([number[example.target] for example in examples], np.int32)


def read_mask(example: Example, data: Path, place: np.ndarray) -> np.ndarray:
    """The mask of an example, cropped as the reader cropped its image.

    Args:
        example: With a mask as target.
        data: The data folder.
        place: Where the frame was in its source, as in `Store.places`.

    Returns:
        Class of every pixel, uint8 [H, W]; 0 is background.

    Raises:
        UserError: Unreadable, not a single-channel 8-bit picture, or of another size.
    """
    try:
        with Image.open(data / example.target) as image:
            mask = np.asarray(image)
    except (OSError, UnidentifiedImageError):
        raise UserError(f"{example.where}: mask '{example.target}' cannot be read.") from None
    if mask.dtype == bool:
        mask = mask.astype(np.uint8)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise UserError(
            f"{example.where}: mask '{example.target}' is not an 8-bit indexed picture."
        )
    rows, columns, top, bottom, left, right = place.tolist()
    if mask.shape != (rows, columns):
        raise UserError(
            f"{example.where}: the mask has {mask.shape[0]}×{mask.shape[1]} pixels, the image "
            f"{rows}×{columns}."
        )
    return mask[top:bottom, left:right]
