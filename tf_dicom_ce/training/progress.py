"""Reports every epoch: a line on the terminal, and a row of `history.csv`."""

import csv
from pathlib import Path

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_dicom_ce.whole_files import replacing


class ProgressBar(keras.callbacks.Callback):
    """Prints a line per epoch with the `shown` metrics; on a terminal also a bar of the steps."""

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
        total = self.params["epochs"] * self.params["steps"]
        done = self.params["first_step"]
        self._task = self._progress.add_task("Training", total=total, completed=done)

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
