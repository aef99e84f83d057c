"""Table 2 and the comparisons between arms, as rows to write."""

import collections
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from tf_dicom_ce.study import statistics
from tf_dicom_ce.study.results import Cell
from tf_dicom_ce.study.runner import Study
from tf_dicom_ce.study.statistics import CellSummary, PairedTest

#: (a, b) -> what their comparison asks.
PAIRS = {
    ("ce", "none"): "Does inpainting help against no pretraining?",
    ("ce+dicom", "imagenet"): "Does the paper's method beat what most would take, ImageNet's?",
    ("ce+dicom", "ce"): "Do tags in the discriminator help (the paper's claim)?",
    ("ce+dicom", "ce+shuffled"): "Is it the tags: do true tags help more than shuffled ones?",
    ("ce+tags", "ce"): "Does predicting the tags beside inpainting help?",
    ("ce+tags", "tags"): "Does inpainting help beside predicting the tags?",
    ("ce+tags", "ce+tags shuffled"): "Do true tags to predict help more than shuffled ones?",
}
#: The pairs that tell true tags from shuffled ones.
CONTROLS = (("ce+dicom", "ce+shuffled"), ("ce+tags", "ce+tags shuffled"))
#: What a test image's score is.
MEASURES = {"classification": "accuracy", "segmentation": "Dice"}
_SEED = 0  # of resampling and flips: a report of the same runs is the same

Condition = tuple[str, bool, float]


@dataclass(frozen=True)
class Entry:
    """One cell of Table 2.

    Attributes:
        arm: Name of the arm.
        task: Name of the task.
        frozen: Whether the encoder stayed as it was.
        fraction: Share of the labelled patients.
        planned: Number of seeds that the study asks for.
        summary: Of the runs that are done; None where there is none.
        paper: The paper's mean and sd, or None.
    """

    arm: str
    task: str
    frozen: bool
    fraction: float
    planned: int
    summary: CellSummary | None
    paper: tuple[float, float] | None


@dataclass(frozen=True)
class Compared:
    """Arm a against arm b under one condition.

    Attributes:
        a: Name of an arm.
        b: Name of an arm.
        task: Name of the task.
        frozen: Whether the encoder stayed as it was.
        fraction: Share of the labelled patients.
        test: Over the seeds that both arms have done; None where there is none.
        p_holm: Adjusted over the conditions of the task, done or not.
        verdict: "better", "worse" or "not shown", of a against b; None without a test.
        paper: The paper's difference, or None.
    """

    a: str
    b: str
    task: str
    frozen: bool
    fraction: float
    test: PairedTest | None
    p_holm: float | None
    verdict: str | None
    paper: float | None


def entries(study: Study, cells: Sequence[Cell]) -> tuple[Entry, ...]:
    """All cells of the table, done or not, in the order of the jobs."""
    done = {(c.arm, c.task, c.frozen, c.fraction): c for c in cells}
    paper = _read_paper()
    names = ("arm", "task", "frozen", "fraction")
    heads = (job.cell for job in study.jobs if job.cell["task"] != "pretraining")
    planned = collections.Counter(tuple(cell[name] for name in names) for cell in heads)
    summaries = {
        key: statistics.cell_summary(cell.scores, cell.patients, _SEED)
        for key, cell in done.items()
    }
    return tuple(
        Entry(*key, count, summaries.get(key), paper.get(key)) for key, count in planned.items()
    )


def comparisons(table: Sequence[Entry], cells: Sequence[Cell]) -> tuple[Compared, ...]:
    """All pairs of `PAIRS` of which the study has both arms.

    A question about a task, under all its conditions, is a family of its own.

    Args:
        table: What `entries` gives.
        cells: What is done.
    """
    conditions = list(dict.fromkeys((e.task, e.frozen, e.fraction) for e in table))
    arms = {entry.arm for entry in table}
    done = {(c.arm, c.task, c.frozen, c.fraction): c for c in cells}
    paper = {(e.arm, e.task, e.frozen, e.fraction): e.paper for e in table if e.paper}
    found = []
    for task in dict.fromkeys(task for task, _, _ in conditions):
        of_task = [condition for condition in conditions if condition[0] == task]
        for pair in PAIRS:
            if not arms.issuperset(pair):
                continue
            tests = [_test(pair, condition, done) for condition in of_task]
            family = statistics.verdicts(tests)
            for condition, test, (p_holm, verdict) in zip(of_task, tests, family, strict=True):
                levels = [paper.get((arm, *condition)) for arm in pair]
                difference = levels[0][0] - levels[1][0] if all(levels) else None
                found.append(Compared(*pair, *condition, test, p_holm, verdict, difference))
    return tuple(found)


def _test(pair: tuple[str, str], condition: Condition, done: dict) -> PairedTest | None:
    a, b = (done.get((arm, *condition)) for arm in pair)
    seeds = [seed for seed in a.seeds if seed in b.seeds] if a and b else []
    if not seeds:
        return None
    return statistics.paired_test(*(c.scores_of(seeds) for c in (a, b)), a.patients, _SEED)


def _read_paper() -> dict[tuple, tuple[float, float]]:
    """(arm, task, frozen, fraction) -> mean and sd over ten bootstraps, from the paper's Table 2.

    Its arm "None" has no mark under "Freeze Encoder", so it stands here as tuned.
    """
    path = resources.files("tf_dicom_ce.study") / "paper_table2.csv"
    with path.open(newline="") as file:
        next(file)
        return {
            (arm, task, freeze == "true", float(fraction)): (float(mean), float(sd))
            for task, arm, freeze, fraction, mean, sd in csv.reader(file)
        }
