"""One way to fit a model: watched, recorded, and left at its best epoch."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.training.monitoring import BestWeights, History, ProgressBar, TensorBoard


def fit_and_keep_best(
    model: keras.Model,
    training: tf.data.Dataset,
    steps_per_epoch: int,
    validation: tf.data.Dataset,
    epochs: int,
    monitor: str,
    scalars: dict[str, str],
    optimizers: dict[str, str],
    panel: tuple[str, Callable[[keras.Model], np.ndarray]],
    panel_every: int,
    shown: tuple[str, ...],
    run: Path,
) -> int:
    """Fits a compiled model and loads the weights of its best epoch.

    Args:
        model: A compiled model.
        training: Endless batches.
        steps_per_epoch: Steps of an epoch.
        validation: Batches, one pass.
        epochs: Epochs.
        monitor: The validation metric whose lowest value is best.
        scalars: See `TensorBoard`.
        optimizers: See `TensorBoard`.
        panel: See `TensorBoard`.
        panel_every: See `TensorBoard`.
        shown: See `ProgressBar`.
        run: Folder that receives `history.csv`, `best.weights.h5`, `tensorboard/`, `panels/`.

    Returns:
        The epoch that was kept, from 1.

    Raises:
        UserError: No epoch had a finite value of `monitor`.
    """
    best = BestWeights(run / "best.weights.h5", monitor)
    board = TensorBoard(
        run / "tensorboard", scalars, optimizers, panel, panel_every, run / "panels"
    )
    model.fit(
        training,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        shuffle=False,  # the datasets are in order already
        verbose=0,
        callbacks=[best, History(run / "history.csv"), board, ProgressBar(shown)],
    )
    best.restore()
    return best.epoch
