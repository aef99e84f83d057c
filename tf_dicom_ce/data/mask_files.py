"""Masks as people have them: found by the CSV or by file name, counted from 1 without gaps."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydicom.misc import is_dicom

from tf_dicom_ce.data.labels import Example
from tf_dicom_ce.dicom.pictures import picture_format
from tf_dicom_ce.errors import UserError

_SUFFIX = re.compile(r"[ _.-]?(mask|seg|segmentation|label)$", re.IGNORECASE)


def match_masks(data: Path, masks: Path) -> dict[str, str]:
    """Finds the mask of each image by the file's name.

    `masks/007.png` and `masks/007_mask.png` are the mask of `anywhere/007.dcm`, `007.png` or `007`.

    Args:
        data: Folder of the images.
        masks: Folder of the masks, PNG files; may lie within `data`.

    Returns:
        Path of the image, relative to `data`, to the mask's path.

    Raises:
        UserError: There is no mask, one has no image, or a name stands for two.
    """
    files = sorted(masks.rglob("*.png"))
    if not files:
        raise UserError(f"--masks {masks}: no PNG file there.")
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
        images = [p for p in images if len(images) == 1 or _is_image(data / p)]
        if not images:
            lonely.append(file)
        elif len(images) > 1 or images[0] in matches:
            two = images[:2] if len(images) > 1 else (matches[images[0]].name, file.name)
            raise UserError(
                f"--masks {masks}: '{file.name}' fits more than once ('{two[0]}', '{two[1]}'). "
                "Name the pairs in a labels CSV with the columns path and mask."
            )
        else:
            matches[images[0]] = file
    if lonely:
        raise UserError(
            f"--masks {masks}: {len(lonely)} of {len(files)} masks have no image of their name in "
            f"{data}, the first is '{lonely[0].name}'. Rename them, take them out, or name the "
            "pairs in a labels CSV."
        )
    return {path: str(matches[path].resolve()) for path in paths if path in matches}


def _is_image(path: Path) -> bool:
    return bool(picture_format(path)) or is_dicom(path)


def read_masks(
    examples: Sequence[Example],
    data: Path,
    places: np.ndarray,
    class_names: tuple[str, ...] | None,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """The masks of examples, cropped as the reader cropped their images, and their classes.

    Masks that hold 0 and 255 alone have one class, as pictures in black and white do.

    Args:
        examples: With masks as targets.
        data: The data folder.
        places: Where the frames were in their sources, as in `Store.places`.
        class_names: Names of the classes from 1 on, or None.

    Returns:
        Class of every pixel, uint8 [H, W] each, 0 is background; names, `background` first.

    Raises:
        UserError: A mask is unreadable, not an 8-bit picture of one channel, or of another size
            than its image; all are empty; or their classes have a gap or are more than named.
    """
    masks = [_read(example, data, *place) for example, place in zip(examples, places, strict=True)]
    found = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    if not found.any():
        raise UserError("All masks are empty: 0 is background, classes count from 1.")
    if set(found.tolist()) <= {0, 255}:
        masks, found = [mask // 255 for mask in masks], found // 255
    highest = int(found.max())
    names = class_names or tuple(f"class_{k}" for k in range(1, highest + 1))
    for example, mask in zip(examples, masks, strict=True):
        if int(mask.max()) > len(names):
            raise UserError(
                f"{example.where}: mask '{example.target}' has class {int(mask.max())}, "
                f"and there are {len(names)}: {', '.join(names)}."
            )
    gaps = set(range(1, highest + 1)) - set(found.tolist())
    if gaps and not class_names:
        raise UserError(
            f"The masks have the classes {', '.join(map(str, found[found > 0]))}, and none has "
            f"{', '.join(map(str, sorted(gaps)[:5]))}. Number them from 1 without gaps, or name "
            "all of them: --class-names."
        )
    return masks, ("background", *names)


def _read(example: Example, data: Path, *place: int) -> np.ndarray:
    rows, columns, top, bottom, left, right = place
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
    if mask.shape != (rows, columns):
        raise UserError(
            f"{example.where}: the mask has {mask.shape[0]}×{mask.shape[1]} pixels, the image "
            f"{rows}×{columns}."
        )
    return mask[top:bottom, left:right]
