"""The whole state of a run, and its checkpoints: files that are whole at any moment.

Variables are saved and restored by path, whatever their order. A path such as `unet/up1/up/kernel`
has to be the same in every process. Keras numbers objects without a name by creation order
(`fused_adam_1`), so every layer, optimizer and seed with saved variables has a name.
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
    """The state of a run after some steps."""

    step: int
    variables: dict[str, np.ndarray]  # all that a step reads or changes, by path
    best: dict[str, np.ndarray]  # the model's variables at the best epoch so far, if any
    state: dict  # the rest of the state, as JSON values


class Checkpoints:
    """The newest few checkpoints of a run.

    A checkpoint is a zip of arrays with checksums (`numpy.savez`), written to a temporary file and
    renamed. Its members are `step`, `state`, and `variables/<path>` and `best/<path>` for every
    variable. Half-written files of a killed run are removed, unless this process only reads
    (`writes` is False).
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

        If the disk is full or cannot be written (OSError), the older checkpoints are untouched.
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
        """Reads the newest checkpoint that is whole; reports every newer one that is damaged."""
        for path in self._newest_first():
            try:
                return _read(path)
            except _DAMAGED as error:
                Console(stderr=True).print(
                    f"Checkpoint {path.name} is damaged ({type(error).__name__}); "
                    "using the one before.",
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
                f"{self._folder.parent}: the disk has {free / 1e9:.1f} GB free, but the run's "
                f"checkpoints need {needed / 1e9:.1f} GB. Free some space, or choose another --run."
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
    """Path -> variable; raises ValueError if two variables have the same path."""
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        if found.setdefault(variable.path, variable) is not variable:
            raise ValueError(f"Two variables have the path {variable.path}. Name their owners.")
    return found


def state_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a step: weights, statistics, seeds, optimizers, running means."""
    optimizers = [v for v in vars(model).values() if isinstance(v, keras.optimizers.Optimizer)]
    slots = [variable for optimizer in optimizers for variable in optimizer.variables]
    return by_path([*model.variables, *slots, *model.metrics_variables])


def values_of(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Path -> a copy of the variable's value."""
    return {path: variable.numpy() for path, variable in variables.items()}


def _require_match(
    variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]
) -> None:
    """Checks that values and variables have the same paths, shapes and dtypes."""
    for path in [*variables, *values]:
        ours, saved = (
            f"{of[path].dtype} {tuple(of[path].shape)}" if path in of else "no such variable"
            for of in (variables, values)
        )
        if saved != ours:
            raise UserError(
                f"{path}: the checkpoint has {saved}, this model has {ours}. The checkpoint comes "
                "from other settings or from an earlier version. Repeat the run's command with "
                "its settings, or start anew in another --run."
            )


def _assign(variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Sets every variable to the value of its path; changes nothing if they do not match."""
    _require_match(variables, values)
    for path, variable in variables.items():
        variable.assign(values[path])


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest value of a metric."""

    def __init__(self, monitor: str):
        super().__init__()
        self._monitor = monitor
        self.state: list = [0, math.inf]  # the best epoch so far, from 1, and its value
        self.weights: dict[str, np.ndarray] = {}  # the model's variables at that epoch

    def on_epoch_end(self, epoch, logs=None):
        if logs[self._monitor] < self.state[1]:
            self.state = [epoch + 1, float(logs[self._monitor])]
            self.weights = values_of(by_path(self.model.variables))

    def restore(self) -> int:
        """Gives the model the kept weights and returns their epoch; UserError if there are none."""
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

    Callbacks with an attribute `state` (JSON values), such as `best`, are saved by class. Two such
    callbacks of the same class raise a ValueError.
    """

    def __init__(self, model: keras.Model, best: BestWeights, callbacks: list):
        self._variables, self._of_model = state_variables(model), by_path(model.variables)
        self._best = best
        stateful = [callback for callback in callbacks if hasattr(callback, "state")]
        self._stateful = {type(callback).__name__: callback for callback in stateful}
        if len(self._stateful) < len(stateful):
            raise ValueError("Two callbacks with a state have the same class.")

    @property
    def size(self) -> int:
        """Upper bound of a checkpoint's bytes: the best weights are at most all variables."""
        return 2 * sum(
            math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
            for variable in self._variables.values()
        )

    def restore(self, checkpoint: Checkpoint | None) -> int:
        """Restores a checkpoint; returns the number of the next step.

        Raises UserError, and changes nothing, if the checkpoint belongs to another model or
        version.
        """
        if checkpoint is None:
            return 0
        if missing := self._stateful.keys() - checkpoint.state.keys():
            raise UserError(
                f"The checkpoint has no state of {min(missing)}: an earlier version wrote it. "
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
        """The present state as a checkpoint after `step` steps."""
        states = {name: callback.state for name, callback in self._stateful.items()}
        return Checkpoint(step, values_of(self._variables), self._best.weights, states)
