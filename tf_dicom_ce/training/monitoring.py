"""What a run shows and keeps: progress, TensorBoard, history and the best weights."""

import csv
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_dicom_ce.errors import UserError


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
        total = self.params["epochs"] * self.params["steps"]
        self._task = self._progress.add_task("Training", total=total)

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


class TensorBoard(keras.callbacks.Callback):
    """Scalars of both sides in named groups, learning rates, and a panel of fixed images.

    Args:
        folder: Folder of the event files; `train` and `validation` are made below it.
        scalars: Metric -> name in TensorBoard, "group/name".
        optimizers: Name -> attribute of the model that holds the optimizer.
        panel: Name of the panel and how to draw it: model -> uint8 [H, W, 3].
        panel_every: Epochs between two panels; the first and the last epoch always have one.
        panels: Folder for the panels as PNG.
    """

    def __init__(
        self,
        folder: Path,
        scalars: dict[str, str],
        optimizers: dict[str, str],
        panel: tuple[str, Callable[[keras.Model], np.ndarray]],
        panel_every: int,
        panels: Path,
    ):
        super().__init__()
        self._train = tf.summary.create_file_writer(str(folder / "train"))
        self._validation = tf.summary.create_file_writer(str(folder / "validation"))
        self._scalars = scalars
        self._optimizers = optimizers
        self._panel = panel
        self._panel_every = panel_every
        self._panels = panels
        panels.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        epoch += 1
        for writer, prefix in ((self._train, ""), (self._validation, "val_")):
            with writer.as_default(step=epoch):
                for metric, name in self._scalars.items():
                    if prefix + metric in logs:
                        tf.summary.scalar(name, logs[prefix + metric])
        with self._train.as_default(step=epoch):
            for name, attribute in self._optimizers.items():
                rate = getattr(self.model, attribute).learning_rate
                tf.summary.scalar(f"learning rate/{name}", rate)
        if epoch == 1 or epoch % self._panel_every == 0 or epoch == self.params["epochs"]:
            self._write_panel(epoch)
        self._train.flush()
        self._validation.flush()

    def on_train_end(self, logs=None):
        self._train.close()
        self._validation.close()

    def _write_panel(self, epoch):
        name, draw = self._panel
        picture = draw(self.model)
        with self._validation.as_default(step=epoch):
            tf.summary.image(name, picture[np.newaxis])
        Image.fromarray(picture).save(self._panels / f"epoch_{epoch:04d}.png")


class History(keras.callbacks.Callback):
    """One CSV row an epoch, written as it ends.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch, logs=None):
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if epoch == 0:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch + 1, *(f"{value:.9g}" for value in logs.values())])


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest value of a metric.

    Args:
        path: The `.weights.h5` file to write; it is whole at any moment.
        monitor: The metric.
    """

    def __init__(self, path: Path, monitor: str):
        super().__init__()
        self._path = path
        self._monitor = monitor
        self.epoch, self.lowest = 0, np.inf

    def on_epoch_end(self, epoch, logs=None):
        if logs[self._monitor] < self.lowest:
            self.epoch, self.lowest = epoch + 1, float(logs[self._monitor])
            beside = self._path.with_name("part." + self._path.name)
            self.model.save_weights(beside)
            beside.replace(self._path)

    def restore(self) -> None:
        """Loads the kept weights into the model.

        Raises:
            UserError: No epoch had a finite value.
        """
        if not self.epoch:
            raise UserError(
                f"{self._monitor} was never a finite number. Lower the learning rate, or look "
                "for the cause in TensorBoard."
            )
        self.model.load_weights(self._path)
