"""The interface to keras-tuner: an oracle that proposes settings, and a tuner that runs trials.

Besides the public API of keras-tuner, this module uses some private names of version 1.4.8:

- `src.config.DEBUG`, to suppress a traceback for each failed trial;
- `_get_oracle_fname`, `_get_trial_dir`, `_save_trial`, `_record_values` and `_retry_queue`, to
  write whole files and to repeat killed trials;
- `_is_worker`, because a worker of a distributed search keeps no files.
"""

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.oracles import BayesianOptimizationOracle
from keras_tuner.src import config as keras_tuner_config
from sklearn.exceptions import ConvergenceWarning

from tf_dicom_ce.child_process import ChildError, last_line, run_child
from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.config_file import write_settings
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tuning.space import CONFIG, LOG, RESULT, configuration
from tf_dicom_ce.whole_files import keep_first, write_json

keras_tuner_config.DEBUG = False
OBJECTIVE = "val_rec"
FINISHED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
# Entries of a trial's `config.json` that identify the content of its data.
_CONTENT = ("data_fingerprint", "labels_fingerprint", "split_fingerprint")
_HOPELESS = 3  # number of failures at the start that end the search


@dataclass(frozen=True)
class Plan:
    """A search.

    The command line of a trial is `command`, the trial's folder, `words` (options of `train` that
    are not settings) and `places` (options that locate the data). `places` may change between two
    starts: the trials' fingerprints identify the data.
    """

    folder: Path
    base: PretrainConfig
    names: Sequence[str]  # the searched settings of `SPACE`
    trials: int
    command: Sequence[str]
    words: Sequence[str]
    environment: Mapping[str, str]
    places: Sequence[str] = ()


def _hyperparameters(space: dict[str, dict]) -> keras_tuner.HyperParameters:
    """A space of `resolve` as keras-tuner's hyperparameters."""
    declared = keras_tuner.HyperParameters()
    for name, entry in space.items():
        if isinstance(entry["default"], bool):  # a Choice would make numbers of them
            declared.Boolean(name, default=entry["default"])
        elif "values" in entry:
            declared.Choice(name, entry["values"], default=entry["default"])
        else:
            bounds = entry["low"], entry["high"]
            declared.Float(name, *bounds, sampling="log", default=entry["default"])
    return declared


class SearchOracle(BayesianOptimizationOracle):
    """Proposes settings: the preset first, then random ones (a third), then promising ones.

    When keras-tuner is killed, it may leave half a file, forget trials that ran before the first
    one ended, or keep a trial as running forever. Here files are whole, and every unfinished trial
    is run again. `told` is called with the oracle, a finished trial, and its seconds.
    """

    def __init__(self, space: dict[str, dict], trials: int, seed: int, told: Callable):
        super().__init__(
            objective=keras_tuner.Objective(OBJECTIVE, "min"),
            max_trials=trials,
            num_initial_points=max(3, trials // 3),
            hyperparameters=_hyperparameters(space),
            seed=seed + 1,  # 0 would draw a random seed
            max_consecutive_failed_trials=trials + 1,  # a failed trial is a result
        )
        self.verbose = 0
        self._told = told
        self._began: dict[str, float] = {}

    def populate_space(self, trial_id: str) -> dict:
        """Proposes the values of a trial."""
        if not self.trials:
            values = {hp.name: hp.default for hp in self.hyperparameters.space}
            return {"status": TrialStatus.RUNNING, "values": values}
        with warnings.catch_warnings():
            # Few points leave the length scale of the Gaussian process open.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().populate_space(trial_id)

    def create_trial(self, tuner_id: str) -> Trial:
        """Starts a trial."""
        trial = super().create_trial(tuner_id)
        self._began[trial.trial_id] = time.monotonic()
        return trial

    def end_trial(self, trial: Trial) -> None:
        """Ends a trial and reports it."""
        super().end_trial(trial)
        seconds = time.monotonic() - self._began.pop(trial.trial_id, time.monotonic())
        self._told(self, self.trials[trial.trial_id], seconds)

    def save(self) -> None:
        """Writes the state that is not in the trials' own files."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_json(path, trial.get_state())

    def reload(self) -> None:
        """Reads the files; if they disagree, a trial's own file decides whether it has ended."""
        super().reload()
        self.start_order += sorted(self.trials.keys() - set(self.start_order))
        for trial in self.trials.values():
            self._record_values(trial)
        ended = [k for k in self.start_order if self.trials[k].status in FINISHED]
        self.end_order = list(dict.fromkeys([*self.end_order, *ended]))
        unfinished = [k for k in self.start_order if k not in ended]
        for trial_id in unfinished:
            trial = self.trials[trial_id]
            self.trials[trial_id] = Trial(trial.hyperparameters, trial_id)  # without measures
        self._retry_queue = unfinished[::-1]  # taken from the end


class ChangedImagesError(UserError, FatalError):
    """The trials can no longer be compared; ends the search."""


class ProcessTuner(BaseTuner):
    """Runs each trial in its own process, so that the memory of a trial is freed."""

    def __init__(self, oracle: SearchOracle, plan: Plan):
        self._plan = plan
        super().__init__(oracle, directory=str(plan.folder), project_name="oracle")
        if not self._is_worker():
            if Path(oracle._get_oracle_fname()).exists():
                oracle.reload()
            oracle.save()

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Trains with the proposed settings."""
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
        problem = f"--run {self._plan.folder}: the images are not those of the earlier trials:"
        try:
            prints = {k: settings.get(k) for k in _CONTENT}
            note_once(self._plan.folder / "data.json", prints, problem)
        except UserError as error:
            raise ChangedImagesError(str(error)) from None
        result = json.loads((folder / RESULT).read_text())
        return {OBJECTIVE: result["validation"]["rec"]}

    def on_trial_end(self, trial: Trial) -> None:
        """Ends the trial; ends the search if the first few trials all failed."""
        super().on_trial_end(trial)
        if self._is_worker() or len(self.oracle.end_order) != _HOPELESS:
            return
        first = [self.oracle.trials[trial_id] for trial_id in self.oracle.end_order]
        if all(t.status == TrialStatus.FAILED for t in first):
            folder = self._plan.folder / "trials" / trial.trial_id
            raise UserError(
                f"The first {_HOPELESS} trials failed, the last with: {last_line(folder / LOG)}\n"
                f"Correct it, and search in another --run; see {folder.parent}/*/log.txt."
            )

    def save(self) -> None:
        """Saves the oracle; the tuner itself has no state."""
        if not self._is_worker():
            self.oracle.save()


def note_once(path: Path, content: dict, problem: str) -> None:
    """Writes the fixed facts of a search to a JSON file; UserError if they differ from the file's.

    Only one of several processes writes the file.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    write_json(beside, content)
    now = json.loads(beside.read_text())
    keep_first(beside, path)
    noted = json.loads(path.read_text())
    differences = "".join(
        f"\n  {key}: {noted.get(key)} then, {now.get(key)} now"
        for key in dict.fromkeys([*noted, *now])
        if noted.get(key) != now.get(key)
    )
    if differences:
        raise UserError(f"{problem}{differences}\nChoose another --run.")
