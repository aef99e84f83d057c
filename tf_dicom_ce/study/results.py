"""What the finished jobs of a study found, as arrays to compare."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study.runner import State, Study


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry of the table: all seeds of an arm under one condition.

    Attributes:
        arm: Name of the arm.
        task: Name of the task.
        frozen: Whether the encoder stayed as it was.
        fraction: Share of the labelled patients.
        seeds: Seeds that are done, [S].
        scores: Of every test image, float [S, N]: Dice (NaN where the truth has no class), or 1
            where the class is right and 0 where not.
        patients: Patient of every test image, [N].
        folders: The runs' folders, [S].
    """

    arm: str
    task: str
    frozen: bool
    fraction: float
    seeds: tuple[int, ...]
    scores: np.ndarray
    patients: np.ndarray
    folders: tuple[Path, ...]

    def scores_of(self, seeds: Sequence[int]) -> np.ndarray:
        """The rows of `scores` of these seeds, in their order."""
        return self.scores[[self.seeds.index(seed) for seed in seeds]]


def collect(study: Study) -> tuple[Cell, ...]:
    """Reads the test tables of all heads that are done, in the order of the jobs.

    Raises:
        UserError: Two heads of a task were tested on other images.
    """
    found: dict[tuple, list[tuple[int, Path, np.ndarray]]] = {}
    patients: dict[str, np.ndarray] = {}
    for job in study.jobs:
        cell = job.cell
        if cell["task"] == "pretraining" or study.state(job) is not State.DONE:
            continue
        folder = study.place(job.name)
        scores, whose = _read_table(folder / "test.csv")
        first = patients.setdefault(cell["task"], whose)
        if not np.array_equal(first, whose):
            raise UserError(
                f"{folder}: tested on other images than the other heads. Give the labels of the "
                "task a column 'split', so that the test set is always the same."
            )
        key = (cell["arm"], cell["task"], cell["frozen"], cell["fraction"])
        found.setdefault(key, []).append((cell["seed"], folder, scores))
    return tuple(
        Cell(
            *key,
            tuple(seed for seed, _, _ in runs),
            np.stack([scores for _, _, scores in runs]),
            patients[key[1]],
            tuple(folder for _, folder, _ in runs),
        )
        for key, runs in found.items()
    )


def pretraining_losses(study: Study) -> dict[str, list[dict[str, float]]]:
    """Arm -> the validation measures of its pretrainings that are done."""
    losses: dict[str, list[dict[str, float]]] = {}
    for job in study.jobs:
        if job.cell["task"] == "pretraining" and study.state(job) is State.DONE:
            result = json.loads((study.place(job.name) / "result.json").read_text())
            losses.setdefault(job.cell["arm"], []).append(result["validation"])
    return losses


def _read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if "dice" in rows[0]:
        scores = [float(row["dice"] or "nan") for row in rows]
    else:
        scores = [float(row["true"] == row["predicted"]) for row in rows]
    return np.array(scores), np.array([row["patient"] for row in rows])
