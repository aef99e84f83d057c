"""Checkpoints of a training run, in files that are whole at any moment."""

import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from tf_dicom_ce.errors import UserError

_GROUPS = ("variables", "best")
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Checkpoint:
    """A run after some steps.

    Attributes:
        step: Steps done.
        variables: Values of all that a step reads or changes, by path.
        best: Those of the model at the best epoch so far, by path; empty before there is one.
        state: What else has to be known, as JSON values.
    """

    step: int
    variables: dict[str, np.ndarray]
    best: dict[str, np.ndarray]
    state: dict


class Checkpoints:
    """The newest few checkpoints of a run.

    A checkpoint is a zip of arrays with checksums (`numpy.savez`), written beside and renamed. Its
    members are `step`, `state`, and `variables/<path>` and `best/<path>` for every variable.

    Args:
        folder: Made if need be; what a killed run left half-written is removed.
        keep: Number of checkpoints to keep, at least 1.
        writes: False in a process that only reads what another one writes.
    """

    def __init__(self, folder: Path, keep: int = 3, writes: bool = True):
        self._folder, self._keep, self._writes = folder, keep, writes
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink()

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, then removes the oldest beyond `keep`.

        Raises:
            OSError: The disk is full or cannot be written; older checkpoints are untouched.
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
        for old in self._newest_first()[self._keep :]:
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
        """Checks that the disk has room for all checkpoints to come, of `size` bytes each.

        Raises:
            UserError: It has not.
        """
        if not self._writes:
            return
        needed = size * (self._keep + 1)
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
