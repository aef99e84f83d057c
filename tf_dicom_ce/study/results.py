"""What the finished jobs of a study found, as arrays to compare."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study.runner import Study


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry of the table: all seeds of an arm under one condition.

    Attributes:
        arm: Name of the arm.
        task: Name of the task.
        frozen: Whether the encoder stayed as it was.
        fraction: Share of the labelled patients.
        seeds: Seeds that are done, [S].
        scores: Of every test image that has one, float [S, N]: Dice, or 1 where the class is right
            and 0 where not.
        patients: Patient of each of these images, str [N].
        left_out: Number of test images without a score: Dice needs a class in the truth.
    """

    arm: str
    task: str
    frozen: bool
    fraction: float
    seeds: tuple[int, ...]
    scores: np.ndarray
    patients: np.ndarray
    left_out: int

    def scores_of(self, seeds: Sequence[int]) -> np.ndarray:
        """The rows of `scores` of these seeds, in their order."""
        return self.scores[[self.seeds.index(seed) for seed in seeds]]


def collect(study: Study) -> tuple[Cell, ...]:
    """Reads the test tables of all heads that are done, in the order of the jobs.

    All cells of a task have the same images, those with a score, whatever the arm and however many
    seeds are done. Which these are, the truth alone decides, and so the first table; one in which
    others have a score is refused.

    Raises:
        UserError: Jobs saw other data, or heads of a task were tested on other images, or have a
            score on other images, or on none; the message names the folder.
    """
    study.require_same_data()
    found: dict[tuple, list[tuple[int, np.ndarray]]] = {}
    tested: dict[str, tuple[Path, list[tuple[str, ...]], np.ndarray]] = {}
    for job, place in study.done():
        cell, table = job.cell, place / "test.csv"
        if cell["task"] == "pretraining":
            continue
        images, scores = _read_table(table)
        seen = (table, images, ~np.isnan(scores))
        first, its_images, counts = tested.setdefault(cell["task"], seen)
        if images != its_images:
            raise UserError(
                f"{table}: other images, patients or true classes than in {first}. Give the labels "
                "of the task a column 'split', so that the test set is always the same, remove the "
                "folders of the jobs with the wrong one and run the study again."
            )
        if not np.array_equal(counts, ~np.isnan(scores)):
            raise UserError(
                f"{table}: Dice is missing on other images than in {first}, although the truth "
                "alone decides where. Another version wrote one of them, or masks have changed: "
                "remove the folder of the older job and run the study again."
            )
        if not counts.any():
            raise UserError(f"{table}: no test image has a score. Use images that show the organ.")
        key = (cell["arm"], cell["task"], cell["frozen"], cell["fraction"])
        found.setdefault(key, []).append((cell["seed"], scores[counts]))
    cells = []
    for key, runs in found.items():
        _, images, counts = tested[key[1]]
        seeds, scores = zip(*runs, strict=True)
        patients = np.array([patient for patient, *_ in images])[counts]
        cells.append(Cell(*key, seeds, np.stack(scores), patients, int((~counts).sum())))
    return tuple(cells)


def _read_table(path: Path) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """A head's `test.csv`, in the order of patients and paths.

    Returns:
        Of each test image patient, path, frame and true class, where the table has them; and its
        score, float [N]: `dice`, NaN where it is empty, or whether `predicted` is `true`.

    Raises:
        UserError: A column is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or ()
    measured = ("dice",) if "dice" in columns else ("true", "predicted")
    for name in ("path", "patient", *measured):
        if name not in columns:
            raise UserError(
                f"{path}: no column '{name}'; an older version may have written the table. Remove "
                "the job's folder and run the study again."
            )
    identity = [name for name in ("patient", "path", "frame", "true") if name in columns]
    rows.sort(key=lambda row: [row[name] for name in identity])
    if "dice" in columns:
        scores = [float(row["dice"] or "nan") for row in rows]
    else:
        scores = [float(row["true"] == row["predicted"]) for row in rows]
    return [tuple(row[name] for name in identity) for row in rows], np.array(scores)
