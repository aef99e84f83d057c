"""What a search has found: a line a trial, the table, `trials.csv` and `best.toml`."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_tuner.engine.trial import Trial
from rich import box
from rich.console import Console
from rich.table import Table

from tf_dicom_ce.child_process import last_line
from tf_dicom_ce.tuning.oracle import FINISHED, OBJECTIVE, SearchOracle
from tf_dicom_ce.tuning.space import CONFIG, LOG, RESULT, configuration
from tf_dicom_ce.whole_files import replacing, write_table


@dataclass(frozen=True)
class Row:
    """A trial that has ended.

    Attributes:
        trial: Its id, the name of its folder.
        status: `completed` or `failed`.
        score: L_rec on the validation images, or None.
        epoch: The epoch that was kept, or None.
        values: Searched setting -> value.
        error: What the trial said last, where it failed.
    """

    trial: str
    status: str
    score: float | None
    epoch: int | None
    values: dict
    error: str


class Report:
    """Tells of trials as they end, and keeps the files of the search up to date.

    Args:
        folder: The search's folder.
        base: Settings that are not searched.
    """

    def __init__(self, folder: Path, base):
        self._folder, self._base = folder, base
        self._start, self._ended = time.monotonic(), 0
        self._console = Console(highlight=False, soft_wrap=True)

    def tell(self, oracle: SearchOracle, trial: Trial, seconds: float) -> None:
        """One line on a trial that has ended, and the time that is left."""
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

    def write(self, oracle: SearchOracle) -> list[Row]:
        """Writes `trials.csv` and `best.toml`; returns the trials, the best first."""
        rows = [self._row(t) for t in oracle.trials.values() if t.status in FINISHED]
        rows.sort(key=lambda row: (row.score is None, row.score, row.trial))
        names = [hp.name for hp in oracle.hyperparameters.space]
        write_table(
            self._folder / "trials.csv",
            ("trial", "status", OBJECTIVE, "best_epoch", *names, "error"),
            (
                {"trial": row.trial, "status": row.status, OBJECTIVE: row.score}
                | {"best_epoch": row.epoch, **row.values, "error": row.error}
                for row in rows
            ),
        )
        if rows and rows[0].score is not None:
            with replacing(self._folder / "best.toml") as beside:
                shutil.copyfile(self._folder / "trials" / rows[0].trial / CONFIG, beside)
        return rows

    def show(self, rows: Sequence[Row]) -> None:
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

    def _row(self, trial: Trial) -> Row:
        folder = self._folder / "trials" / trial.trial_id
        config = configuration(self._base, trial.hyperparameters.values)
        values = {name: getattr(config, name) for name in trial.hyperparameters.values}
        if trial.score is None:
            return Row(trial.trial_id, "failed", None, None, values, last_line(folder / LOG))
        result = json.loads((folder / RESULT).read_text())
        score, epoch = result["validation"]["rec"], result["best_epoch"]
        return Row(trial.trial_id, "completed", score, epoch, values, "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
