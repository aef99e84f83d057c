"""What a run prints and keeps: progress, history and the best weights."""

import csv
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.training.variables import assign, by_path, values_of
from tf_dicom_ce.whole_files import replacing


class ProgressBar(keras.callbacks.Callback):
    """A bar over the steps of the run on a terminal, and a line an epoch everywhere.

    Args:
        shown: Metrics to print, of both sides.
    """

    def __init__(self, shown: tuple[str, ...]):
        super().__init__()
        self._shown = shown

    def on_train_begin(self, logs=None):
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            "Training",
            total=self.params["epochs"] * self.params["steps"],
            completed=self.params["first_step"],
        )

    def on_train_batch_end(self, batch, logs=None):
        self._progress.advance(self._task)

    def on_epoch_end(self, epoch, logs=None):
        sides = [
            f"{side}: " + " ".join(f"{k} {logs[prefix + k]:.4f}" for k in self._shown)
            for side, prefix in (("train", ""), ("validation", "val_"))
        ]
        self._progress.console.print(
            f"epoch {epoch + 1}/{self.params['epochs']}  " + "  ".join(sides),
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs=None):
        self._progress.stop()


class History(keras.callbacks.Callback):
    """One CSV row an epoch; the file is whole at any moment.

    Args:
        path: The file to write.

    Attributes:
        state: The rows so far, for checkpoints.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self.state: list[list[str]] = []

    def on_epoch_end(self, epoch, logs=None):
        if not self.state:
            self.state.append(["epoch", *logs])
        self.state.append([str(epoch + 1), *(f"{value:.9g}" for value in logs.values())])
        with replacing(self._path) as beside, beside.open("w", newline="") as file:
            csv.writer(file).writerows(self.state)


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest value of a metric.

    Args:
        monitor: The metric.

    Attributes:
        state: The best epoch so far, from 1 (0: none yet), and its value, for checkpoints.
        weights: The values of all of the model's variables at that epoch, by path, for
            checkpoints.
    """

    def __init__(self, monitor: str):
        super().__init__()
        self._monitor = monitor
        self.state: list = [0, float("inf")]
        self.weights: dict[str, np.ndarray] = {}

    def on_epoch_end(self, epoch, logs=None):
        if logs[self._monitor] < self.state[1]:
            self.state = [epoch + 1, float(logs[self._monitor])]
            self.weights = values_of(by_path(self.model.variables))

    def restore(self) -> int:
        """Gives the model the kept weights; returns their epoch.

        Raises:
            UserError: No epoch had a finite value.
        """
        epoch, _ = self.state
        if not epoch:
            raise UserError(
                f"{self._monitor} was never a finite number. Lower the learning rate, or look "
                "for the cause in TensorBoard."
            )
        assign(by_path(self.model.variables), self.weights)
        return epoch
