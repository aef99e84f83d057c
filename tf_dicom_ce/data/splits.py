"""Splits that keep a patient on one side."""

import hashlib
from dataclasses import dataclass

import numpy as np

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
