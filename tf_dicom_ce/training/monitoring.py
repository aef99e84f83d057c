"""What a run shows and keeps: progress, TensorBoard, history and the best weights."""

import csv
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_dicom_ce.training.panels import inpainting_panel

#: Metric -> name in TensorBoard, by group.
_SCALARS = {
    "joint": "loss/joint (Eq. 3)",
    "rec": "loss/reconstruction",
    "rec_of_mean": "loss/reconstruction of the mean",
    "adv": "loss/adversarial",
    "disc": "loss/discriminator",
    "d_real": "discriminator/D(real)",
    "d_fake": "discriminator/D(fake)",
    "c_rf": "discriminator/size of C_rf",
    "p": "discriminator/size of P",
    "g_norm": "gradient norm/F",
    "d_norm": "gradient norm/D",
}


class ProgressBar(keras.callbacks.Callback):
    """A bar over the steps of the run on a terminal, and a line an epoch everywhere."""

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
        self._progress.console.print(
            f"epoch {epoch + 1}/{self.params['epochs']}  "
            f"train: L_rec {logs['rec']:.4f} joint {logs['joint']:.4f} "
            f"D(real) {logs['d_real']:.2f} D(fake) {logs['d_fake']:.2f}  "
            f"validation: L_rec {logs['val_rec']:.4f} joint {logs['val_joint']:.4f}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs=None):
        self._progress.stop()


class TensorBoard(keras.callbacks.Callback):
    """Scalars of both sides in named groups, and the inpainting panel of fixed images.

    Args:
        folder: Folder of the event files; `train` and `validation` are made below it.
        images: z-scored validation images of the panel, float [N, H, W, 1].
        panel_every: Epochs between two panels; the first and the last epoch always have one.
        panels: Folder for the panels as PNG.
    """

    def __init__(self, folder: Path, images: np.ndarray, panel_every: int, panels: Path):
        super().__init__()
        self._train = tf.summary.create_file_writer(str(folder / "train"))
        self._validation = tf.summary.create_file_writer(str(folder / "validation"))
        self._images = images
        self._panel_every = panel_every
        self._panels = panels
        panels.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        epoch += 1
        for writer, prefix in ((self._train, ""), (self._validation, "val_")):
            with writer.as_default(step=epoch):
                for metric, name in _SCALARS.items():
                    if prefix + metric in logs:
                        tf.summary.scalar(name, logs[prefix + metric])
        with self._train.as_default(step=epoch):
            for network, optimizer in (
                ("F", self.model.g_optimizer),
                ("D", self.model.d_optimizer),
            ):
                tf.summary.scalar(f"learning rate/{network}", optimizer.learning_rate)
        if epoch == 1 or epoch % self._panel_every == 0 or epoch == self.params["epochs"]:
            self._write_panel(epoch)
        self._train.flush()
        self._validation.flush()

    def on_train_end(self, logs=None):
        self._train.close()
        self._validation.close()

    def _write_panel(self, epoch):
        panel = inpainting_panel(self.model, self._images)
        with self._validation.as_default(step=epoch):
            tf.summary.image(
                "inpainting", panel[np.newaxis], description="Input with hole, prediction, truth."
            )
        Image.fromarray(panel).save(self._panels / f"epoch_{epoch:04d}.png")


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
    """Keeps the weights with the lowest joint loss on the validation images (section 4.3).

    Args:
        path: The `.weights.h5` file to write; it is whole at any moment.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self.epoch, self.joint = 0, np.inf

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_joint"] < self.joint:
            self.epoch, self.joint = epoch + 1, float(logs["val_joint"])
            beside = self._path.with_name("part." + self._path.name)
            self.model.save_weights(beside)
            beside.replace(self._path)
