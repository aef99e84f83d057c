"""Keras-tuner's Bayesian search, made safe against a kill at any moment."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle
from sklearn.exceptions import ConvergenceWarning

from tf_dicom_ce.whole_files import write_json

OBJECTIVE = "val_rec"
FINISHED = (TrialStatus.COMPLETED, TrialStatus.FAILED)


def hyperparameters(space: dict[str, dict]) -> keras_tuner.HyperParameters:
    """A space as `resolve` returns it, in keras-tuner's terms."""
    declared = keras_tuner.HyperParameters()
    for name, entry in space.items():
        if isinstance(entry["default"], bool):  # a Choice would make numbers of them
            declared.Boolean(name, default=entry["default"])
        elif "values" in entry:
            declared.Choice(name, entry["values"], default=entry["default"])
        else:
            declared.Float(
                name, entry["low"], entry["high"], sampling="log", default=entry["default"]
            )
    return declared


class SearchOracle(BayesianOptimizationOracle):
    """Proposes settings: the preset first, then a third at random, then where it looks good.

    Keras-tuner 1.4.8 alone may leave half a file behind, forgets what ran before the first trial
    ended, and keeps a trial for ever as running whose start it had noted in one file but not in
    the other. Here files are whole, and every trial without an end is run again.

    Args:
        space: As `resolve` returns it.
        trials: Number of trials.
        seed: Of the proposals.
        told: Called with a trial that has ended, and the seconds it took.
    """

    def __init__(
        self,
        space: dict[str, dict],
        trials: int,
        seed: int,
        told: Callable[["SearchOracle", Trial, float], None],
    ):
        super().__init__(
            objective=keras_tuner.Objective(OBJECTIVE, "min"),
            max_trials=trials,
            num_initial_points=max(3, trials // 3),
            hyperparameters=hyperparameters(space),
            seed=seed + 1,  # 0 would mean: draw one
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
        """Ends a trial and tells of it."""
        super().end_trial(trial)
        seconds = time.monotonic() - self._began.pop(trial.trial_id, time.monotonic())
        self._told(self, self.trials[trial.trial_id], seconds)

    def save(self) -> None:
        """Writes what is not in the trials' own files."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_json(path, trial.get_state())

    def continue_or_start(self) -> None:
        """Takes up what an earlier process left, or notes that the search has begun."""
        if Path(self._get_oracle_fname()).exists():
            self.reload()
        self.save()

    def reload(self) -> None:
        """Reads the files; where they disagree, a trial's own says whether it has ended."""
        super().reload()
        for trial_id in sorted(self.trials.keys() - set(self.start_order)):
            self.start_order.append(trial_id)
        for trial in self.trials.values():
            self._record_values(trial)
        ended = [k for k in self.start_order if self.trials[k].status in FINISHED]
        self.end_order = list(dict.fromkeys([*self.end_order, *ended]))
        unfinished = [k for k in self.start_order if k not in ended]
        for trial_id in unfinished:
            trial = self.trials[trial_id]
            self.trials[trial_id] = Trial(trial.hyperparameters, trial_id)  # without measures
        self._retry_queue = unfinished[::-1]  # taken from the end
