"""Labels CSV to examples: an image, its class or mask, its patient, and perhaps its split."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_tables import Line, read_table

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
# What programs write where there is nothing.
_MISSING = {"nan", "none", "null", "na", "n/a", "nil", "?", "-"}
_WHOLE = re.compile(r"\A(-?\d+)\.0+\Z")  # as spreadsheets and pandas write integers


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


def read_labels(
    path: Path, data: Path, target: str, masks: Mapping[str, str] | None = None
) -> tuple[Example, ...]:
    """Reads a labels CSV and checks it against the data folder.

    Args:
        path: The CSV (`user_tables.read_table`): column `path`, column `target`, optional `frame`,
            `patient` and `split`.
        data: Folder that `path` (and `mask`) are relative to.
        target: `label` or `mask`.
        masks: Path of an image to its mask, where the CSV has no column `mask`.

    Returns:
        The examples whose target is filled in, in the order of the CSV.

    Raises:
        UserError: A missing file or column, an unknown split, or an image twice; the message names
            the line.
    """
    _, lines = read_table(path, "path", *([] if masks else [target]))
    for line in lines if masks else ():
        line.cells.setdefault(target, masks.get(line.cells["path"], ""))
    examples = tuple(_example(line, data, target) for line in lines if line.cells[target])
    if not examples:
        raise UserError(f"--labels {path}: no row has a {target}.")
    if len({example.split is None for example in examples}) == 2:
        raise UserError(f"--labels {path}: 'split' is filled in for some rows only.")
    images: dict[tuple, Example] = {}
    for example in examples:
        first = images.setdefault((example.path, example.frame), example)
        if first is not example:
            raise UserError(f"{example.where}: '{example.path}' stands in {first.where} already.")
    return examples


def listed(masks: Mapping[str, str]) -> tuple[Example, ...]:
    """The examples of images that have a mask, where there is no CSV.

    Args:
        masks: Path of an image to its mask.
    """
    return tuple(
        Example(f"mask '{Path(mask).name}'", path, None, mask, "", None)
        for path, mask in masks.items()
    )


def _example(line: Line, data: Path, target: str) -> Example:
    cells, where = line.cells, line.where
    for name in (cells["path"], *([cells[target]] if target == "mask" else [])):
        if not (data / name).is_file():
            raise UserError(f"{where}: no file '{name}' in {data}.")
    split = cells.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise UserError(f"{where}: split '{split}' is none of {', '.join(SPLITS)}.")
    frame = cells.get("frame") or None
    if frame is not None and not frame.isdecimal():
        raise UserError(f"{where}: frame '{frame}' is not a number from 0.")
    return Example(
        where,
        cells["path"],
        None if frame is None else int(frame),
        cells[target] if target == "mask" else _WHOLE.sub(r"\1", cells[target]),
        cells.get("patient", ""),
        split and SPLITS[split.lower()],
    )


def class_labels(
    examples: tuple[Example, ...], order: tuple[str, ...] | None, ordinal: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the classes, and the class of every example.

    Args:
        examples: With class names or integers as targets; `1.0` is 1.
        order: Names in their order; None takes integers by size and names by the alphabet.
        ordinal: Whether the order means something: then names need `order`.

    Returns:
        Names, and int32 [N].

    Raises:
        UserError: A class that `order` does not name, that looks like a missing value, that differs
            from another in case only, or words whose order nobody knows; the message names lines.
    """
    names = order or _found_classes(examples, ordinal)
    number = {name: k for k, name in enumerate(names)}
    for example in examples:
        if example.target not in number:
            raise UserError(
                f"{example.where}: unknown class '{example.target}'. Known: {', '.join(names)}."
            )
    return names, np.array([number[example.target] for example in examples], np.int32)


def _found_classes(examples: tuple[Example, ...], ordinal: bool) -> tuple[str, ...]:
    firsts: dict[str, Example] = {}
    for example in examples:
        same = firsts.setdefault(example.target.casefold(), example)
        if example.target.casefold() in _MISSING:
            raise UserError(
                f"{example.where}: is '{example.target}' a class? If it means that the label is "
                "missing, leave the cell empty; else name all classes: --class-names."
            )
        if same.target != example.target:
            raise UserError(
                f"{example.where}: is '{example.target}' the class '{same.target}' of "
                f"{same.where}? Write them alike, or name all classes: --class-names."
            )
    names = [example.target for example in firsts.values()]
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    names = tuple(sorted(names))
    if ordinal:
        raise UserError(
            f"The classes {', '.join(names)} are no whole numbers: give their order, e.g. "
            f"--class-names {' '.join(names)}, or --label-encoding categorical if they have none."
        )
    return names
