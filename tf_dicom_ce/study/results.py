"""The results of a study's finished jobs: Table 2 and the comparisons between arms."""

import collections
import csv
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study import statistics
from tf_dicom_ce.study.protocol import MEASURES
from tf_dicom_ce.study.runner import Study, read_json
from tf_dicom_ce.study.statistics import CellSummary, PairedTest, Verdict

#: (a, b) -> the question of their comparison.
PAIRS = {
    ("ce", "none"): "Does inpainting help against no pretraining?",
    ("distilled", "none"): "Does a teacher help against no pretraining?",
    ("ce+dicom", "imagenet"): "Does the paper's method beat an ImageNet network?",
    ("distilled", "imagenet"): "Does an encoder distilled from an ImageNet network beat it?",
    ("distilled", "ce"): "Does a teacher help more than inpainting?",
    ("ce+dicom", "ce"): "Do tags in the discriminator help (the paper's claim)?",
    ("ce+dicom", "ce+shuffled"): "Do true tags help more than shuffled ones (the control)?",
    ("tags", "none"): "Does predicting the tags, alone, help against no pretraining?",
    ("tags", "ce"): "Does predicting the tags, alone, help more than inpainting?",
    ("tags", "tags shuffled"): "Does predicting true tags, alone, help more than shuffled ones?",
    ("ce+tags", "ce"): "Does predicting the tags, in addition to inpainting, help?",
    ("ce+tags", "tags"): "Does inpainting, in addition to predicting the tags, help?",
    ("ce+tags", "ce+tags shuffled"): "Does predicting true tags help more than shuffled ones?",
}
#: The pairs that compare true with shuffled tags.
CONTROLS = tuple((a, b) for a, b in PAIRS if "shuffled" in b)
_SEED = 0  # of resampling and flips, so that a report can be reproduced


@dataclass(frozen=True)
class Condition:
    """The condition of a comparison of arms."""

    task: str
    measure: str  # the score of a test image, of `protocol.MEASURES`
    readout: str  # one of `protocol.READOUTS`
    labels: float  # share of the labelled patients; above 1, number of labelled images


@dataclass(frozen=True)
class Cell(Condition):
    """The results of a cell of the table: all seeds of an arm under one condition.

    A score of a test image is its Dice, or 1 for the right class and 0 for a wrong one; for a
    probe, the mean over its draws.
    """

    arm: str
    seeds: tuple[int, ...]  # the finished seeds, [S]
    scores: np.ndarray  # float [S, N]
    patients: np.ndarray  # patient of each of these images, str [N]
    left_out: int  # number of test images without a score: Dice needs a class in the truth
    chosen: tuple[str, ...]  # end of the name of each seed's job, as `rate-0.001`


def collect(study: Study) -> tuple[Cell, ...]:
    """Reads the test tables of all finished heads, in the order of the jobs.

    If jobs differ only in the learning rate, the one with the lowest validation loss counts, once
    all are done.

    All cells of a task have the same images, those with a score, for every arm and any number of
    finished seeds. The truth alone decides which images have a score, so the first table decides
    for all. A table with scores on other images is refused.

    Raises:
        UserError: Jobs saw different data, or heads of a task were tested on different images, have
            scores on different images, or have no scores; the message names the folder.
    """
    study.require_same_data()
    found: dict[tuple, dict[int, list[tuple[float, str, np.ndarray]]]] = {}
    planned = collections.Counter(_run(job.cell) for job in study.jobs if "readout" in job.cell)
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
                f"{table}: Dice is missing on other images than in {first}, although it depends "
                "on the true masks only. Another version wrote one of them, or masks have changed: "
                "remove the folder of the older job and run the study again."
            )
        if not counts.any():
            raise UserError(f"{table}: no test image has a score. Use images that show the organ.")
        of_seed = found.setdefault(_key(cell), {}).setdefault(cell["seed"], [])
        loss = 0.0 if planned[_run(cell)] == 1 else _validation_loss(place)
        of_seed.append((loss, place.name, scores[counts]))
    cells = []
    for key, by_seed in found.items():
        whole = {s: runs for s, runs in by_seed.items() if len(runs) == planned[key, s]}
        if not whole:
            continue
        _, images, counts = tested[key[0]]
        best = [min(runs, key=operator.itemgetter(0)) for runs in whole.values()]
        _, names, scores = zip(*best, strict=True)
        patients = np.array([patient for patient, *_ in images])[counts]
        left_out = int((~counts).sum())
        cells.append(Cell(*key, tuple(whole), np.stack(scores), patients, left_out, names))
    return tuple(cells)


def _run(cell: Mapping[str, Any]) -> tuple:
    """The key that jobs have in common if they differ only in the learning rate."""
    return _key(cell), cell["seed"]


def _validation_loss(place: Path) -> float:
    return read_json(place / "result.json")["validation"]["loss"]


def _read_table(path: Path) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """A head's `test.csv`, in the order of patients and paths.

    Returns patient, path, frame and true class of each test image, if the table has them, and its
    score, float [N]: `dice` (NaN if empty), `accuracy`, or whether `predicted` equals `true`.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or ()
    score = next((name for name in ("dice", "accuracy") if name in columns), None)
    for name in ("path", "patient", *(() if score else ("true", "predicted"))):
        if name not in columns:
            raise UserError(
                f"{path}: no column '{name}'; an older version may have written the table. Remove "
                "the job's folder and run the study again."
            )
    identity = [name for name in ("patient", "path", "frame", "true") if name in columns]
    rows.sort(key=lambda row: [row[name] for name in identity])
    if score:
        scores = [float(row[score] or "nan") for row in rows]
    else:
        scores = [float(row["true"] == row["predicted"]) for row in rows]
    return [tuple(row[name] for name in identity) for row in rows], np.array(scores)


def _key(cell: Mapping[str, Any]) -> tuple[str, str, str, float, str]:
    """Condition and arm of a job's cell, or of the attributes of an entry."""
    return tuple(cell[name] for name in ("task", "measure", "readout", "labels", "arm"))


@dataclass(frozen=True)
class Entry(Condition):
    """One cell of Table 2 in the report."""

    arm: str
    planned: int  # number of seeds of the study
    summary: CellSummary | None  # of the finished runs; None if there are none
    paper: tuple[float, float] | None  # the paper's mean and sd


@dataclass(frozen=True)
class Compared(Condition):
    """Arm a against arm b under one condition."""

    a: str
    b: str
    test: PairedTest | None  # over the finished seeds of both arms; None if there are none
    verdict: Verdict | None  # in the family of all conditions of the task, done or not
    power: float | None  # probability that a difference of Δ would have been shown
    smallest: float | None  # difference that would have been shown with a probability of 0.8
    paper: float | None  # the paper's difference


def entries(study: Study, cells: Sequence[Cell]) -> tuple[Entry, ...]:
    """All cells of the table, done or not, in the order of the jobs."""
    paper = _read_paper()
    runs = {_run(job.cell): None for job in study.jobs if "readout" in job.cell}
    planned = collections.Counter(key for key, _ in runs)
    summaries = {
        _key(vars(cell)): statistics.cell_summary(cell.scores, cell.patients, _SEED)
        for cell in cells
    }
    return tuple(
        Entry(*key, count, summaries.get(key), paper.get(key)) for key, count in planned.items()
    )


def comparisons(
    table: Sequence[Entry], cells: Sequence[Cell], effect: float
) -> tuple[Compared, ...]:
    """Compares all pairs of `PAIRS` whose arms are in the study; `effect` is Δ.

    Each question about a task, under all its conditions, is a separate family.
    """
    conditions = list(dict.fromkeys((e.task, e.measure, e.readout, e.labels) for e in table))
    arms = {entry.arm for entry in table}
    done = {_key(vars(cell)): cell for cell in cells}
    paper = {_key(vars(entry)): entry.paper for entry in table if entry.paper}
    found = []
    for task in dict.fromkeys(task for task, *_ in conditions):
        of_task = [condition for condition in conditions if condition[0] == task]
        for pair in PAIRS:
            if not arms.issuperset(pair):
                continue
            tests = [_test(pair, condition, done, effect) for condition in of_task]
            family = statistics.verdicts(tests)
            for condition, test, verdict in zip(of_task, tests, family, strict=True):
                levels = [paper.get((*condition, arm)) for arm in pair]
                difference = levels[0][0] - levels[1][0] if all(levels) else None
                power = test and statistics.power(test, effect, len(family))
                smallest = test and statistics.smallest_effect(test, len(family))
                seen = (test, verdict, power, smallest)
                found.append(Compared(*condition, *pair, *seen, difference))
    return tuple(found)


def _test(pair: tuple[str, str], condition: tuple, done: dict, effect: float) -> PairedTest | None:
    a, b = (done.get((*condition, arm)) for arm in pair)
    seeds = [seed for seed in a.seeds if seed in b.seeds] if a and b else []
    if not seeds:
        return None
    scores = (arm.scores[[arm.seeds.index(seed) for seed in seeds]] for arm in (a, b))
    return statistics.paired_test(*scores, a.patients, _SEED, effect)


def _read_paper() -> dict[tuple, tuple[float, float]]:
    """`_key` -> mean and sd over ten bootstraps, from the paper's Table 2.

    Its arm "None" has no mark under "Freeze Encoder", so it counts as tuned.
    """
    path = resources.files("tf_dicom_ce.study") / "paper_table2.csv"
    with path.open(newline="") as file:
        next(file)
        return {
            (task, MEASURES[task], readout, float(labels), arm): (float(mean), float(sd))
            for task, arm, readout, labels, mean, sd in csv.reader(file)
        }
