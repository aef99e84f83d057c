"""The search: an oracle that proposes, processes that try what it proposed, and what they found."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.src import config as keras_tuner_config
from rich import box
from rich.console import Console
from rich.table import Table

from tf_dicom_ce.child_process import ChildError, last_line, run_child
from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.config_file import write_settings
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tuning.oracle import FINISHED, OBJECTIVE, SearchOracle
from tf_dicom_ce.tuning.space import CONFIG, LOG, RESULT, configuration, resolve
from tf_dicom_ce.whole_files import replacing, sole, write_table

keras_tuner_config.DEBUG = False  # or it prints a traceback for each trial that failed
# What a trial's `config.json` says of the content of its data.
_CONTENT = ("data_fingerprint", "labels_fingerprint", "split_fingerprint")
_HOPELESS = 3  # so many failures at the start end the search


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        folder: Where all of it is kept.
        base: Settings that are not searched.
        names: Settings that are, see `SPACE`.
        trials: Number of trials.
        command: Starts the process of a trial, if its folder and `words` follow.
        words: Options of `train` that are no settings.
        environment: Of that process.
        places: Options of `train` that say where data lie. They may change between two starts: the
            trials' fingerprints say what lies there.
    """

    folder: Path
    base: PretrainConfig
    names: Sequence[str]
    trials: int
    command: Sequence[str]
    words: Sequence[str]
    environment: Mapping[str, str]
    places: Sequence[str] = ()


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
    """Tells of trials as they end, and keeps the files of the search up to date."""

    def __init__(self, plan: Plan):
        self._folder, self._base = plan.folder, plan.base
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


def tune(plan: Plan) -> None:
    """Runs or continues a search, and tells of it; see `search`."""
    folder = plan.folder
    print(
        f"Searching {', '.join(plan.names)}.",
        f"Search: {folder}   (tensorboard --logdir {folder}; logs: {folder}/trials/*/log.txt)",
        sep="\n",
        flush=True,
    )
    rows = search(plan)
    if rows is None:
        print("This worker is done; the chief tells of the results.")
        return
    Report(plan).show(rows)
    if len(rows) < plan.trials:
        print("The search space has no more points.")
    if any(row.score is not None for row in rows):
        best = folder / "best.toml"
        print(f"Best settings: {best}   (train.py --config {best})")
    else:
        print(f"No trial has ended well; see {folder / 'trials'}/*/log.txt.")


def search(plan: Plan) -> list[Row] | None:
    """Runs or continues a search, or one part of a distributed one.

    Args:
        plan: The search; the same in every process and in every continuation, but for the number
            of trials, which may be raised.

    Returns:
        The trials, the best first; None in a worker of a distributed search.

    Raises:
        UserError: The folder is in use or holds something else, or the first trials all failed.
    """
    worker = role() == "worker"
    plan.folder.mkdir(parents=True, exist_ok=True)
    started = (plan.folder / "search.json").exists()
    if not started and not worker and any(p.name != "lock" for p in plan.folder.iterdir()):
        raise UserError(f"--run {plan.folder}: the folder holds no search. Choose another name.")
    space = resolve(plan.names, plan.base)
    report = Report(plan)
    busy = f"--run {plan.folder}: another process searches here right now."
    with contextlib.nullcontext() if worker else sole(plan.folder / "lock", busy):
        _settle(
            plan.folder / "search.json",
            {**plan.base.as_dict(), "train": list(plan.words), "search": space},
            f"--run {plan.folder}: the folder holds a search with other settings:",
        )
        oracle = SearchOracle(space, plan.trials, plan.base.seed, report.tell)
        tuner = ProcessTuner(oracle, plan)
        if not worker and (done := report.write(oracle)):
            print(f"Going on: {len(done)} of {plan.trials} trials have ended before.")
        tuner.search()
        return None if worker else report.write(oracle)


def role() -> str:
    """`chief` or `worker` of a distributed search, or `alone`.

    Raises:
        UserError: Only some of keras-tuner's variables are set.
    """
    names = [f"KERASTUNER_{name}" for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID")]
    missing = [name for name in names if name not in os.environ]
    if len(missing) == len(names):
        return "alone"
    if missing:
        raise UserError(f"A distributed search needs {', '.join(missing)} as well.")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


class ChangedImagesError(UserError, FatalError):
    """The trials can no longer be compared; ends the search."""


class ProcessTuner(BaseTuner):
    """Runs each trial in a process of its own, so that no trial's memory stays.

    Args:
        oracle: Proposes.
        plan: The search.
    """

    def __init__(self, oracle: SearchOracle, plan: Plan):
        self._plan = plan
        super().__init__(oracle, directory=str(plan.folder), project_name="oracle")
        if not self._is_worker():
            oracle.continue_or_start()

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Tries what was proposed."""
        folder = self._plan.folder / "trials" / trial.trial_id
        folder.mkdir(parents=True, exist_ok=True)
        config = configuration(self._plan.base, trial.hyperparameters.values)
        write_settings(folder / CONFIG, config)
        try:
            words = (str(folder), *self._plan.words, *self._plan.places)
            run_child((*self._plan.command, *words), folder / LOG, self._plan.environment)
        except ChildError as error:
            raise FailedTrialError(str(error)) from None
        settings = json.loads((folder / "config.json").read_text())
        try:
            _settle(
                self._plan.folder / "data.json",
                {k: settings.get(k) for k in _CONTENT},
                f"--run {self._plan.folder}: the images are not those of the earlier trials:",
            )
        except UserError as error:
            raise ChangedImagesError(str(error)) from None
        result = json.loads((folder / RESULT).read_text())
        return {OBJECTIVE: result["validation"]["rec"]}

    def on_trial_end(self, trial: Trial) -> None:
        """Ends the trial; and the search where the first few trials all failed."""
        super().on_trial_end(trial)
        if self._is_worker() or len(self.oracle.end_order) != _HOPELESS:
            return
        first = [self.oracle.trials[trial_id] for trial_id in self.oracle.end_order]
        if all(t.status == TrialStatus.FAILED for t in first):
            folder = self._plan.folder / "trials" / trial.trial_id
            raise UserError(
                f"The first {_HOPELESS} trials failed, the last with: {last_line(folder / LOG)}\n"
                f"Mend it and search in another --run; the logs are {folder.parent}/*/log.txt."
            )

    def save(self) -> None:
        """Saves the oracle; the tuner itself has no state."""
        if not self._is_worker():
            self.oracle.save()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _settle(path: Path, content: dict, problem: str) -> None:
    """Notes in a JSON file what holds for the whole search, or raises UserError with differences.

    Of several processes one writes it.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    with contextlib.suppress(FileExistsError):
        os.link(beside, path)
    noted, now = json.loads(path.read_text()), json.loads(beside.read_text())
    beside.unlink()
    differences = "".join(
        f"\n  {key}: {noted.get(key)} then, {now.get(key)} now"
        for key in dict.fromkeys([*noted, *now])
        if noted.get(key) != now.get(key)
    )
    if differences:
        raise UserError(f"{problem}{differences}\nChoose another --run.")
