"""Reads labels: a CSV of classes or masks, or masks found by their file names.

An example is an image with its class or mask, its patient and, optionally, its split.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydicom.misc import is_dicom

from tf_dicom_ce.dicom.pictures import picture_format
from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_tables import Line, read_table

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
# Values that programs write for a missing value.
_MISSING = {"nan", "none", "null", "na", "n/a", "nil", "?", "-"}
_WHOLE = re.compile(r"\A(-?\d+)\.0+\Z")  # as spreadsheets and pandas write integers
_SUFFIX = re.compile(r"[ _.-]?(mask|seg|segmentation|label)$", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """One row of the labels CSV."""

    where: str  # file and line, for messages
    path: str  # the image, relative to the data folder; `./0.png` is `0.png`
    frame: int | None  # of a cine, from 0; None for the middle one
    target: str  # class (classification) or mask relative to the data folder (segmentation)
    patient: str  # as in the column `patient`; empty if that is empty
    split: str | None  # `train`, `validation`, `test`; None without such a column


def read_labels(
    path: Path | None, data: Path, target: str, masks: Mapping[str, str] | None = None
) -> tuple[Example, ...]:
    """Reads a labels CSV and checks it against the data folder.

    Args:
        path: The CSV (`user_tables.read_table`) with a column `path`, a column `target`, and
            optional columns `frame`, `patient` and `split`; None takes the examples of `masks`.
        data: Folder that the columns `path` and `mask` are relative to.
        target: `label` or `mask`.
        masks: Path of an image -> its mask, if the CSV has no column `mask`.

    Returns:
        The examples with a target, in the order of the CSV.

    Raises:
        UserError: A missing file or column, an unknown split, or an image twice; the message names
            the line.
    """
    if path is None:
        return tuple(
            Example(f"mask '{Path(mask).name}'", image, None, mask, "", None)
            for image, mask in masks.items()
        )
    _, lines = read_table(path, "path", *([] if masks else [target]))
    for line in lines if masks else ():
        line.cells.setdefault(target, masks.get(line.cells["path"], ""))
    examples = tuple(_example(line, data, target) for line in lines if line.cells[target])
    if not examples:
        raise UserError(f"--labels {path}: no row has a {target}. Fill in the column.")
    if len({example.split is None for example in examples}) == 2:
        raise UserError(
            f"--labels {path}: 'split' is filled in for some rows only. "
            "Fill in all of them, or none."
        )
    images: dict[tuple, Example] = {}
    for example in examples:
        first = images.setdefault((example.path, example.frame), example)
        if first is not example:
            raise UserError(
                f"{example.where}: '{example.path}' is in {first.where} already. Remove one."
            )
    return examples


def _example(line: Line, data: Path, target: str) -> Example:
    cells, where = line.cells, line.where
    for name in (cells["path"], *([cells[target]] if target == "mask" else [])):
        if not (data / name).is_file():
            raise UserError(f"{where}: no file '{name}' in {data}. Paths are relative to --data.")
    split = cells.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise UserError(f"{where}: split '{split}': choose from {', '.join(SPLITS)}.")
    frame = cells.get("frame") or None
    if frame is not None and not frame.isdecimal():
        raise UserError(f"{where}: frame '{frame}': give a whole number, 0 or more.")
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
    """Names of the classes, and the class of every example, int32 [N].

    `order` names the classes in their order. None sorts integers by size and names alphabetically;
    names without an order are an error if the order matters (`ordinal`).

    Raises:
        UserError: A class is not in `order`, looks like a missing value, or differs from another
            one in case only; or names without an order. The message names the lines.
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
                f"{example.where}: is '{example.target}' a class? If the label is missing, leave "
                "the cell empty; otherwise list all classes with --class-names."
            )
        if same.target != example.target:
            raise UserError(
                f"{example.where}: is '{example.target}' the class '{same.target}' of "
                f"{same.where}? Write both in the same way, or list all classes: --class-names."
            )
    names = [example.target for example in firsts.values()]
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    names = tuple(sorted(names))
    if ordinal:
        raise UserError(
            f"The classes {', '.join(names)} are not numbers. Give their order, such as "
            f"--class-names {' '.join(names)}, or --label-encoding categorical if they have none."
        )
    return names


def match_masks(data: Path, masks: Path) -> dict[str, str]:
    """Finds the mask of each image by the file's name; returns image path -> mask path.

    For example, `masks/007.png` or `masks/007_mask.png` is the mask of `anywhere/007.dcm`,
    `007.png` or `007`. Image paths are relative to `data`, which may contain the folder `masks`.

    Raises:
        UserError: There are no masks, a mask has no image, or a name occurs twice.
    """
    files = sorted(masks.rglob("*.png"))
    if not files:
        raise UserError(f"--masks {masks}: the folder has no PNG file.")
    inside = masks.resolve()
    found = (p for p in data.rglob("*") if p.is_file() and inside not in p.resolve().parents)
    paths = sorted(path.relative_to(data).as_posix() for path in found)
    by_name = defaultdict(list)
    for path in paths:
        for name in {Path(path).name, Path(path).stem}:
            by_name[name].append(path)
    matches: dict[str, Path] = {}
    lonely = []
    for file in files:
        images = by_name[_SUFFIX.sub("", file.stem)] or by_name[file.stem]
        if len(images) > 1:
            images = [p for p in images if picture_format(data / p) or is_dicom(data / p)]
        if not images:
            lonely.append(file)
        elif len(images) > 1 or images[0] in matches:
            two = images[:2] if len(images) > 1 else (matches[images[0]].name, file.name)
            raise UserError(
                f"--masks {masks}: '{file.name}' fits more than once ('{two[0]}', '{two[1]}'). "
                "List the pairs in a labels CSV with the columns path and mask."
            )
        else:
            matches[images[0]] = file
    if lonely:
        raise UserError(
            f"--masks {masks}: {len(lonely)} of {len(files)} masks have no image of their name in "
            f"{data}, such as '{lonely[0].name}'. Rename them, remove them, or list the pairs in "
            "a labels CSV."
        )
    return {path: str(matches[path].resolve()) for path in paths if path in matches}


def read_masks(
    examples: Sequence[Example],
    data: Path,
    places: Iterable[tuple[tuple[int, int], Region]],
    class_names: tuple[str, ...] | None,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Reads the masks of examples, cropped like their images, and the names of their classes.

    Black and white masks, with 0 and 255 only, have one class. `places` are those of the examples'
    frames, see `Store.place`. `class_names` names the classes from 1 on.

    Returns:
        Class of every pixel, uint8 [H, W] each, 0 is background; names, `background` first.

    Raises:
        UserError: A mask is unreadable, is not an 8-bit picture of one channel, or differs in size
            from its image; all masks are empty; or their classes have gaps or lack names.
    """
    pairs = zip(examples, places, strict=True)
    masks = [_read_mask(e, data, shape)[region.slices] for e, (shape, region) in pairs]
    found = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    if not found.any():
        raise UserError("All masks are empty. 0 is background; number the classes from 1.")
    if set(found.tolist()) <= {0, 255}:
        masks, found = [mask // 255 for mask in masks], found // 255
    highest = int(found.max())
    names = class_names or tuple(f"class_{k}" for k in range(1, highest + 1))
    for example, mask in zip(examples, masks, strict=True):
        if int(mask.max()) > len(names):
            raise UserError(
                f"{example.where}: mask '{example.target}' has class {int(mask.max())}, "
                f"but there are {len(names)} classes: {', '.join(names)}."
            )
    gaps = set(range(1, highest + 1)) - set(found.tolist())
    if gaps and not class_names:
        raise UserError(
            f"The masks have the classes {', '.join(map(str, found[found > 0]))}, but not "
            f"{', '.join(map(str, sorted(gaps)[:5]))}. Number them from 1 without gaps, or name "
            "all of them: --class-names."
        )
    return masks, ("background", *names)


def _read_mask(example: Example, data: Path, shape: tuple[int, int]) -> np.ndarray:
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
    if mask.shape != shape:
        raise UserError(
            f"{example.where}: the mask has {mask.shape[0]}×{mask.shape[1]} pixels, the image "
            f"{shape[0]}×{shape[1]}."
        )
    return mask
