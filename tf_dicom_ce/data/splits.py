"""Splits that keep a patient on one side."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.decoding import Image
from tf_dicom_ce.whole_files import write_table


@dataclass(frozen=True)
class Split:
    """Row numbers of the sides, ascending int64 arrays without common elements."""

    train: np.ndarray
    validation: np.ndarray  # chooses the best epoch
    test: np.ndarray | None = None  # labelled images that are used for no choice

    @property
    def sides(self) -> dict[str, np.ndarray]:
        """The sides by name."""
        return {name: rows for name, rows in vars(self).items() if rows is not None}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all sides: equal only for equal splits."""
        content = "|".join(f"{rows.tolist()}" for rows in self.sides.values())
        return hashlib.sha256(content.encode()).hexdigest()


def write_split(path: Path, images: Sequence[Image], patients: Sequence[str], split: Split) -> None:
    """Writes the side of every image to a private CSV, because paths may name a patient.

    The columns are path, frame (if there are cines), patient and split; images on no side are
    `unused`.
    """
    side_of = {int(row): side for side, rows in split.sides.items() for row in rows}
    cines = any(image.frame is not None for image in images)
    rows = []
    for row, (image, patient) in enumerate(zip(images, patients, strict=True)):
        frame = {"frame": image.frame} if cines else {}
        side = side_of.get(row, "unused")
        rows.append({"path": image.path, **frame, "patient": patient, "split": side})
    write_table(path, tuple(rows[0]), rows, private=True)


def split_rows(
    rows: np.ndarray, groups: np.ndarray, validation_fraction: float, seed: int
) -> Split:
    """Random split in which no group is on both sides and no side is empty.

    Groups are taken in random order. A group joins the validation side if this brings the side's
    share of images nearer to `validation_fraction`.

    Args:
        rows: Row numbers, int [N].
        groups: Group of each row, int [N]: the patient, or the row itself for a split by image
            (section 4.3 splits by image, so that a patient may be on both sides).
        validation_fraction: Share of the rows for validation, above 0 and below 1.
        seed: Same seed, same split.

    Raises:
        UserError: Fewer than two groups.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < 2:
        raise UserError(
            f"{len(rows)} images of {len(names)} patient cannot be split by patient. "
            "Add files of a second patient. If there are several patients, name them in a labels "
            "CSV with a column patient; or use --split image."
        )
    target = validation_fraction * len(rows)
    chosen, count = [], 0
    for k in np.random.default_rng(seed).permutation(len(names)):
        nearer = abs(count + sizes[k] - target) < abs(count - target)
        if nearer and len(chosen) < len(names) - 1:
            chosen.append(names[k])
            count += sizes[k]
    if not chosen:  # every group is larger than twice the target
        chosen.append(names[np.argmin(sizes)])
    validation = np.isin(groups, chosen)
    return Split(train=np.sort(rows[~validation]), validation=np.sort(rows[validation]))


def split_labelled(groups: np.ndarray, strata: np.ndarray, seed: int) -> Split:
    """Splits patients 80/10/10, with every class on every side if possible.

    `groups` holds the patient of each row, `strata` its class (zeros without classes), int [N].

    Raises:
        UserError: Fewer than ten patients, or no class with ten images.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second

    largest = np.bincount(strata).max()
    for count, what in ((len(np.unique(groups)), "patients"), (largest, "images of a class")):
        if count < 10:
            raise UserError(
                f"{count} {what} are too few for an 80/10/10 split, which needs ten. "
                "Add some, or give the labels CSV a column 'split'."
            )
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer than ten rows
        sides = [fold for _, fold in folds.split(groups, strata, groups)]
    return Split(train=np.sort(np.concatenate(sides[2:])), validation=sides[1], test=sides[0])


def nested_fraction(
    rows: np.ndarray, groups: np.ndarray, strata: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """The rows of a share of the patients; a smaller share is part of every larger one.

    A share is the first part of `_order`. `groups` holds the patient of each of `rows`, `strata`
    its class, int [N]. `fraction` is above 0 and at most 1. The result is ascending.
    """
    order = _order(groups, strata, np.random.default_rng(seed))
    chosen = order[: max(1, round(fraction * len(order)))]
    return np.sort(rows[np.isin(groups, chosen)])


def nested_count(
    rows: np.ndarray, groups: np.ndarray, strata: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """The first `count` of the rows, or all; a smaller number is part of every larger one.

    The order is one image of every patient in `_order`, then a second image of every patient that
    has one, and so on. The arguments are those of `nested_fraction`.
    """
    rng = np.random.default_rng(seed)
    rank = {name: k for k, name in enumerate(_order(groups, strata, rng))}
    turns: Counter = Counter()
    places = np.empty((len(rows), 2), int)
    for k in rng.permutation(len(rows)):
        places[k] = turns[groups[k]], rank[groups[k]]
        turns[groups[k]] += 1
    return np.sort(rows[np.lexsort(places.T[::-1])[:count]])


def _order(groups: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> list:
    """Patients in random order; classes, the commonest of each patient, are spread evenly."""
    names = rng.permutation(np.unique(groups))
    kind = {name: np.bincount(strata[groups == name]).argmax() for name in names}
    total, seen = Counter(kind.values()), Counter()
    position = {}
    for name, k in kind.items():
        position[name] = (seen[k] + rng.uniform()) / total[k]
        seen[k] += 1
    return sorted(names, key=position.get)
