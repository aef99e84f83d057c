"""One way to fit a model: watched, recorded, resumable, and left at its best epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.training import devices
from tf_dicom_ce.training.checkpoints import Checkpoints
from tf_dicom_ce.training.loop import Data, Schedule, train
from tf_dicom_ce.training.monitoring import BestWeights, History, ProgressBar
from tf_dicom_ce.training.tensorboard import Draw, TensorBoard
from tf_dicom_ce.whole_files import replacing


@dataclass(frozen=True)
class Watch:
    """What is shown of a run: `shown` by `ProgressBar`, and all that `TensorBoard` takes.

    Attributes:
        monitor: The validation metric whose lowest value is best.
        guards: Run's folder, TensorBoard's validation writer -> more callbacks.
    """

    monitor: str
    scalars: dict[str, str]
    optimizers: dict[str, str]
    pictures: dict[str, Draw]
    pictures_every: int
    shown: tuple[str, ...]
    configuration: Mapping = field(default_factory=dict)
    histograms: bool = False
    guards: Callable[[Path, tf.summary.SummaryWriter], list[keras.callbacks.Callback]] = (
        lambda run, writer: []
    )


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and TensorFlow; `deterministic` also fixes the order of every sum."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def fit_and_keep_best(
    model: keras.Model,
    data: Data,
    schedule: Schedule,
    watch: Watch,
    run: Path,
    strategy: tf.distribute.Strategy,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> int:
    """Fits a compiled model from where the run stands and gives it the weights of its best epoch.

    Args:
        model: A compiled model with all variables created, in the scope of `strategy`.
        data: What it is fitted on.
        schedule: How long, and how often it is saved.
        watch: What is shown.
        run: Folder of `checkpoints/`, `history.csv`, `best.weights.h5`, `tensorboard/`, `panels/`;
            only the chief of several workers writes.
        strategy: See `devices`.
        callbacks: A user's own. On a resume they start anew, unless they have a `state`.

    Returns:
        The epoch that was kept, from 1.

    Raises:
        UserError: See `loop.train`; or no epoch had a finite value of `monitor`.
        StoppedError: See `loop.train`.
    """
    writes = devices.is_chief(strategy)
    best = BestWeights(watch.monitor)
    callbacks = [*(_callbacks(watch, run) if writes else []), *callbacks]
    checkpoints = Checkpoints(run / "checkpoints", writes=writes)
    train(model, data, schedule, best, callbacks, checkpoints, strategy)
    epoch = best.restore()
    if writes:
        with replacing(run / "best.weights.h5") as beside:
            model.save_weights(beside)
    return epoch


def _callbacks(watch: Watch, run: Path) -> list[keras.callbacks.Callback]:
    board = TensorBoard(
        run / "tensorboard",
        watch.scalars,
        watch.optimizers,
        watch.pictures,
        watch.pictures_every,
        run / "panels",
        watch.configuration,
        watch.histograms,
    )
    # The board comes last, for it closes the writer that the guards share.
    return [
        History(run / "history.csv"),
        ProgressBar(watch.shown),
        *watch.guards(run, board.validation),
        board,
    ]
