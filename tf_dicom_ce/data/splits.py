"""Splits that keep a patient on one side."""

import hashlib
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from tf_dicom_ce.errors import UserError


@dataclass(frozen=True)
class Split:
    """Row numbers of the two sides, ascending int64 arrays without common element."""

    train: np.ndarray
    validation: np.ndarray

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of both sides: equal only for equal splits."""
        return hashlib.sha256(
            f"{self.train.tolist()}|{self.validation.tolist()}".encode()
        ).hexdigest()


def split_rows(
    rows: np.ndarray, groups: np.ndarray, validation_fraction: float, seed: int
) -> Split:
    """Random split in which no group stands on both sides.

    Groups come in random order and join the validation side as long as they bring its share of
    images nearer to `validation_fraction`.

    Args:
        rows: Row numbers, int [N].
        groups: Group of each row, int [N]: the patient, or the row itself for a split by image
            (section 4.3 splits by image, which lets one patient be on both sides).
        validation_fraction: Share of the rows for validation, above 0 and below 1.
        seed: Same seed, same split.

    Returns:
        Split, both sides non-empty.

    Raises:
        UserError: Fewer than two groups.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < 2:
        raise UserError(
            f"{len(rows)} images of {len(names)} patient cannot be split by patient. "
            "Add files of a second patient, or use --split image."
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


@dataclass(frozen=True)
class ThreeWaySplit:
    """Row numbers of training, validation and test, ascending int64 arrays."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_labelled(groups: np.ndarray, strata: np.ndarray, seed: int) -> ThreeWaySplit:
    """80/10/10 of the patients, with every class on every side as far as it goes.

    Args:
        groups: Patient of each row, int [N].
        strata: Class of each row, int [N] (zeros where there is none).
        seed: Same seed, same split.

    Raises:
        UserError: Fewer than ten patients.
    """
    if len(np.unique(groups)) < 10:
        raise UserError(
            f"{len(np.unique(groups))} patients are too few for an 80/10/10 split. "
            "Add patients, or give the labels CSV a column 'split'."
        )
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer than ten rows
        sides = [fold for _, fold in folds.split(groups, strata, groups)]
    return ThreeWaySplit(
        train=np.sort(np.concatenate(sides[2:])), validation=sides[1], test=sides[0]
    )


def nested_fraction(
    rows: np.ndarray, groups: np.ndarray, strata: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """The rows of a share of the patients; a smaller share is part of every larger one.

    Patients stand in one order by the seed, in which each class of patient (by its commonest
    row) is spread evenly, and a share is the first part of that order.

    Args:
        rows: Training rows, int [N].
        groups: Patient of each of `rows`, int [N].
        strata: Class of each of `rows`, int [N].
        fraction: Above 0, at most 1.
        seed: Same seed, same order.

    Returns:
        Chosen rows, ascending.
    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(groups))
    kind = {name: np.bincount(strata[groups == name]).argmax() for name in names}
    total = {k: sum(1 for name in names if kind[name] == k) for k in set(kind.values())}
    seen, position = dict.fromkeys(total, 0), {}
    for name in names:
        k = kind[name]
        position[name] = (seen[k] + rng.uniform()) / total[k]
        seen[k] += 1
    order = sorted(names, key=position.get)
    chosen = order[: max(1, round(fraction * len(order)))]
    return np.sort(rows[np.isin(groups, chosen)])
