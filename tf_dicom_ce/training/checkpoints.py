"""The whole state of a run, and its checkpoints: files that are whole at any moment.

Variables go by their paths, so that what is saved goes back to where it was, whatever the order. A
path such as `unet/up1/up/kernel` has to be the same in every process. Keras numbers what has no
name of its own by what was built before (`fused_adam_1`), so layers, optimizers and seeds whose
variables are saved have names.
"""

import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from tf_dicom_ce.errors import UserError

_KEPT = 3
_GROUPS = ("variables", "best")
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Checkpoint:
    """A run after some steps."""

    step: int
    variables: dict[str, np.ndarray]  # of all that a step reads or changes, by path
    best: dict[str, np.ndarray]  # those of the model at the best epoch so far, if there is one
    state: dict  # what else has to be known, as JSON values


class Checkpoints:
    """The newest few checkpoints of a run.

    A checkpoint is a zip of arrays with checksums (`numpy.savez`), written beside and renamed. Its
    members are `step`, `state`, and `variables/<path>` and `best/<path>` for every variable. What a
    killed run left half-written in the folder is removed, but not by a process that only reads what
    another one `writes`.
    """

    def __init__(self, folder: Path, writes: bool = True):
        self._folder, self._writes = folder, writes
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink()

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, then removes all but the newest three.

        Where the disk is full or cannot be written (OSError), the older ones are untouched.
        """
        if not self._writes:
            return
        state = np.frombuffer(json.dumps(checkpoint.state).encode(), np.uint8)
        arrays = {"step": np.array(checkpoint.step), "state": state}
        for group in _GROUPS:
            for variable, array in getattr(checkpoint, group).items():
                arrays[f"{group}/{variable}"] = array
        path = self._folder / f"step-{checkpoint.step:09d}.npz"
        beside = path.with_suffix(".part")
        try:
            with beside.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        for old in self._newest_first()[_KEPT:]:
            old.unlink()

    def latest(self) -> Checkpoint | None:
        """Reads the newest checkpoint that is whole; says so where a newer one is damaged."""
        for path in self._newest_first():
            try:
                return _read(path)
            except _DAMAGED as error:
                Console(stderr=True).print(
                    f"Checkpoint {path.name} is damaged ({type(error).__name__}); "
                    "taking the one before.",
                    highlight=False,
                )
        return None

    def require_space(self, size: int) -> None:
        """Raises UserError unless the disk has room for all checkpoints, of `size` bytes each."""
        if not self._writes:
            return
        needed = size * (_KEPT + 1)
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise UserError(
                f"{self._folder.parent}: {free / 1e9:.1f} GB free, and the run's checkpoints "
                f"take {needed / 1e9:.1f} GB. Free some space, or choose another --run."
            )

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.npz"), reverse=True)


def _read(path: Path) -> Checkpoint:
    groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in _GROUPS}
    with path.open("rb") as raw, np.load(raw) as file:
        for member in file.files:
            group, _, variable = member.partition("/")
            if variable:
                groups[group][variable] = file[member]
        state = json.loads(file["state"].tobytes())
        return Checkpoint(int(file["step"]), state=state, **groups)


def by_path(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    """Path -> variable; two of the same path are a ValueError."""
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        if found.setdefault(variable.path, variable) is not variable:
            raise ValueError(f"Two variables have the path {variable.path}. Name their owners.")
    return found


def state_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All that a step reads or changes: weights, statistics, seeds, optimizers, running means."""
    optimizers = [v for v in vars(model).values() if isinstance(v, keras.optimizers.Optimizer)]
    slots = [variable for optimizer in optimizers for variable in optimizer.variables]
    return by_path([*model.variables, *slots, *model.metrics_variables])


def values_of(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Path -> a copy of the value."""
    return {path: variable.numpy() for path, variable in variables.items()}


def _require_match(
    variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]
) -> None:
    """Checks that there is a value of the right shape and dtype for each variable, and no more."""
    for path in [*variables, *values]:
        ours, saved = (
            f"{of[path].dtype} {tuple(of[path].shape)}" if path in of else "no such variable"
            for of in (variables, values)
        )
        if saved != ours:
            raise UserError(
                f"{path}: the checkpoint has {saved}, this model has {ours}. The checkpoint is of "
                "another model than these settings give, or of an earlier version. Repeat the "
                "run's command, or start anew in another --run."
            )


def _assign(variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Gives every variable the value of its path; where they do not match, nothing is changed."""
    _require_match(variables, values)
    for path, variable in variables.items():
        variable.assign(values[path])


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest value of a metric."""

    def __init__(self, monitor: str):
        super().__init__()
        self._monitor = monitor
        self.state: list = [0, math.inf]  # the best epoch so far, from 1, and its value
        self.weights: dict[str, np.ndarray] = {}  # of all the model's variables then, by path

    def on_epoch_end(self, epoch, logs=None):
        if logs[self._monitor] < self.state[1]:
            self.state = [epoch + 1, float(logs[self._monitor])]
            self.weights = values_of(by_path(self.model.variables))

    def restore(self) -> int:
        """Gives the model the kept weights; returns their epoch. UserError if there are none."""
        epoch, _ = self.state
        if not epoch:
            raise UserError(
                f"{self._monitor} was never a finite number. Lower the learning rate, or look "
                "for the cause in TensorBoard."
            )
        _assign(by_path(self.model.variables), self.weights)
        return epoch


class RunState:
    """The whole state of a run: to a checkpoint and back.

    Of the callbacks, `best` among them, those with an attribute `state` (JSON values) are saved, by
    class; two of one class are a ValueError.
    """

    def __init__(self, model: keras.Model, best: BestWeights, callbacks: list):
        self._variables, self._of_model = state_variables(model), by_path(model.variables)
        self._best = best
        stateful = [callback for callback in callbacks if hasattr(callback, "state")]
        self._stateful = {type(callback).__name__: callback for callback in stateful}
        if len(self._stateful) < len(stateful):
            raise ValueError("Two callbacks with a state are of the same class.")

    @property
    def size(self) -> int:
        """Bytes of a checkpoint, about: the best weights are no more than the variables."""
        return 2 * sum(
            math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
            for variable in self._variables.values()
        )

    def restore(self, checkpoint: Checkpoint | None) -> int:
        """Takes a checkpoint's state; returns the number of the step to go on with.

        Of one of another model or an earlier version nothing is taken (UserError).
        """
        if checkpoint is None:
            return 0
        if missing := self._stateful.keys() - checkpoint.state.keys():
            raise UserError(
                f"The checkpoint has no state of {min(missing)}: it is of an earlier version. "
                "Start anew in another --run."
            )
        best_epoch, _ = checkpoint.state[type(self._best).__name__]
        if best_epoch:
            _require_match(self._of_model, checkpoint.best)
        _assign(self._variables, checkpoint.variables)
        self._best.weights = checkpoint.best
        for name, callback in self._stateful.items():
            callback.state = checkpoint.state[name]
        return checkpoint.step

    def at(self, step: int) -> Checkpoint:
        """The state as it is, after so many steps."""
        states = {name: callback.state for name, callback in self._stateful.items()}
        return Checkpoint(step, values_of(self._variables), self._best.weights, states)
