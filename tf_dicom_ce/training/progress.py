"""Reports how long a training takes, and every epoch: a line, and a row of `history.csv`."""

import csv
import time
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_dicom_ce.whole_files import replacing

#: Steps behind the first one, which builds the graph, that tell how long a training takes.
_TRIED = 3
_MINUTE, _HOUR, _DAY = 60, 3600, 86400  # seconds
_NO_GPU = (
    " TensorFlow finds no GPU. Without one, --preset quick has images and networks for CPU cores."
)


class ProgressBar(keras.callbacks.Callback):
    """Prints a line per epoch with the `shown` metrics; on a terminal also a bar of the steps.

    Without a terminal it prints a line every minute. After the first steps it says how long a
    training of more than ten minutes will take.
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
        self._total = self.params["epochs"] * self.params["steps"]
        self._first = self._done = self.params["first_step"]
        self._task = self._progress.add_task("Training", total=self._total, completed=self._done)
        self._began = self._printed = None

    def on_train_batch_end(self, batch, logs=None):
        self._progress.advance(self._task)
        self._done += 1
        now = time.monotonic()
        if self._began is None:
            self._began = self._printed = now
            return
        measured = self._done - self._first - 1
        seconds = (now - self._began) / measured
        left = seconds * (self._total - self._done)
        if measured == _TRIED and left > 10 * _MINUTE:
            slow = left > 12 * _HOUR and not tf.config.list_physical_devices("GPU")
            self._print(
                f"A step takes {seconds:.2g} s; the training will take {_duration(left)} or more."
                + _NO_GPU * slow
            )
        if not self._progress.console.is_terminal and now - self._printed >= _MINUTE:
            self._printed = now
            epoch = 1 + (self._done - 1) // self.params["steps"]
            self._print(
                f"epoch {epoch}/{self.params['epochs']}  step {self._done}/{self._total}  "
                f"{_duration(left)} left"
            )

    def on_epoch_end(self, epoch, logs=None):
        sides = [
            f"{side}: " + " ".join(f"{k} {logs[prefix + k]:.4f}" for k in self._shown)
            for side, prefix in (("train", ""), ("validation", "val_"))
        ]
        self._print(f"epoch {epoch + 1}/{self.params['epochs']}  " + "  ".join(sides))

    def on_train_end(self, logs=None):
        self._progress.stop()

    def _print(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for unit, name in ((_DAY, "days"), (_HOUR, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / _MINUTE:.0f} minutes"


class History(keras.callbacks.Callback):
    """Writes one CSV row per epoch; the file is whole at any moment. `state` has all rows."""

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
