"""The search: its progress, its files, and its result."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from tf_dicom_ce.child_process import last_line
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tuning.oracle import (
    FINISHED,
    OBJECTIVE,
    Plan,
    ProcessTuner,
    SearchOracle,
    Trial,
    note_once,
)
from tf_dicom_ce.tuning.space import CONFIG, LOG, RESULT, configuration, resolve
from tf_dicom_ce.whole_files import replacing, sole, write_table


@dataclass(frozen=True)
class Outcome:
    """A finished trial: L_rec on the validation images and the kept epoch, or an error."""

    trial: str
    score: float | None
    epoch: int | None
    values: dict
    error: str

    @property
    def status(self) -> str:
        """`completed` or `failed`."""
        return "failed" if self.score is None else "completed"


class Report:
    """Reports finished trials, and keeps the files of the search up to date."""

    def __init__(self, plan: Plan):
        self._folder, self._base = plan.folder, plan.base
        self._start, self._ended = time.monotonic(), 0
        self._console = Console(highlight=False, soft_wrap=True)

    def tell(self, oracle: SearchOracle, trial: Trial, seconds: float) -> None:
        """Prints one line about a finished trial, with the remaining time."""
        rows = self.write(oracle)
        row = next(row for row in rows if row.trial == trial.trial_id)
        self._ended += 1
        left = oracle.max_trials - len(rows)
        pace = (time.monotonic() - self._start) / self._ended
        told = f"failed: {row.error}" if row.score is None else f"L_rec {row.score:.4f}"
        best = f"; best {rows[0].score:.4f} (trial {rows[0].trial})" if rows[0].score else ""
        rest = f"; about {_duration(pace * left)} left" if left else ""
        self._console.print(
            f"{len(rows)} of {oracle.max_trials}: trial {row.trial} {told}, "
            f"{_duration(seconds)}{best}{rest}",
            markup=False,
        )

    def write(self, oracle: SearchOracle) -> list[Outcome]:
        """Writes `trials.csv` and `best.toml`; returns the trials, the best first."""
        rows = [self._row(t) for t in oracle.trials.values() if t.status in FINISHED]
        rows.sort(key=lambda row: (row.score is None, row.score, row.trial))
        names = [hp.name for hp in oracle.hyperparameters.space]
        columns = ("trial", "status", OBJECTIVE, "best_epoch", *names, "error")
        table = (
            {"trial": row.trial, "status": row.status, OBJECTIVE: row.score}
            | {"best_epoch": row.epoch, **row.values, "error": row.error}
            for row in rows
        )
        write_table(self._folder / "trials.csv", columns, table)
        if rows and rows[0].score is not None:
            with replacing(self._folder / "best.toml") as beside:
                shutil.copyfile(self._folder / "trials" / rows[0].trial / CONFIG, beside)
        return rows

    def show(self, rows: Sequence[Outcome]) -> None:
        """Prints the table of trials."""
        names = list(rows[0].values) if rows else []
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
        for head in ("trial", "L_rec", "epoch", *names):
            table.add_column(head.replace("_", "\n") if head in names else head, no_wrap=True)
        for row in rows:
            score = "failed" if row.score is None else f"{row.score:.4f}"
            values = (str(value) for value in row.values.values())
            table.add_row(row.trial, score, str(row.epoch or ""), *values)
        Console(highlight=False, width=max(self._console.width, 90)).print(table)

    def _row(self, trial: Trial) -> Outcome:
        folder = self._folder / "trials" / trial.trial_id
        config = configuration(self._base, trial.hyperparameters.values)
        values = {name: getattr(config, name) for name in trial.hyperparameters.values}
        if trial.score is None:
            return Outcome(trial.trial_id, None, None, values, last_line(folder / LOG))
        result = json.loads((folder / RESULT).read_text())
        score, epoch = result["validation"]["rec"], result["best_epoch"]
        return Outcome(trial.trial_id, score, epoch, values, "")


def tune(plan: Plan) -> None:
    """Runs or continues a search, and prints its result; see `search`."""
    folder = plan.folder
    print(
        f"Searching {', '.join(plan.names)}.",
        f"Search: {folder}   (tensorboard --logdir {folder}; logs: {folder}/trials/*/log.txt)",
        sep="\n",
        flush=True,
    )
    rows = search(plan)
    if rows is None:
        print("This worker is done; the chief reports the results.")
        return
    Report(plan).show(rows)
    if len(rows) < plan.trials:
        print("The search space has no more points.")
    if any(row.score is not None for row in rows):
        best = folder / "best.toml"
        print(f"Best settings: {best}   (train.py --config {best})")
    else:
        print(f"All trials have failed; see {folder / 'trials'}/*/log.txt.")


def search(plan: Plan) -> list[Outcome] | None:
    """Runs or continues a search, or one part of a distributed one.

    The plan must be the same in every process and continuation; only the number of trials may grow.

    Returns:
        The trials, the best first; None in a worker of a distributed search.

    Raises:
        UserError: The folder is in use or holds something else, the first trials all failed, or
            only some of keras-tuner's variables are set.
    """
    worker = _is_worker()
    plan.folder.mkdir(parents=True, exist_ok=True)
    started = (plan.folder / "search.json").exists()
    if not started and not worker and any(p.name != "lock" for p in plan.folder.iterdir()):
        raise UserError(f"--run {plan.folder}: the folder holds no search. Choose another name.")
    space = resolve(plan.names, plan.base)
    report = Report(plan)
    busy = f"--run {plan.folder}: another search is using this folder. Wait for it."
    with contextlib.nullcontext() if worker else sole(plan.folder / "lock", busy):
        note_once(
            plan.folder / "search.json",
            {**plan.base.as_dict(), "train": list(plan.words), "search": space},
            f"--run {plan.folder}: the folder holds a search with other settings:",
        )
        oracle = SearchOracle(space, plan.trials, plan.base.seed, report.tell)
        tuner = ProcessTuner(oracle, plan)
        if not worker and (done := report.write(oracle)):
            print(f"Continuing: {len(done)} of {plan.trials} trials are finished.")
        tuner.search()
        return None if worker else report.write(oracle)


def _is_worker() -> bool:
    """Whether this is a worker, not the chief, of a distributed search."""
    names = [f"KERASTUNER_{name}" for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID")]
    missing = [name for name in names if name not in os.environ]
    if 0 < len(missing) < len(names):
        raise UserError(f"A distributed search needs {', '.join(missing)} as well.")
    return not missing and "chief" not in os.environ["KERASTUNER_TUNER_ID"]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
