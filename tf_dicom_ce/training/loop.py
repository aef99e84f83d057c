"""The training loop, which can be stopped and resumed after any step.

A step is a function of the state and of its number, because data are addressed by step. So, on the
same machine and with `--deterministic`, a resumed run ends with the same bits as a run that was
never stopped. Keras' `fit` cannot do this: it begins every epoch at the first step with fresh
means. Nor does `fit` run on several workers (keras#20585). Callbacks are called as by `fit`.
"""

import contextlib
import dataclasses
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.errors import StoppedError, UserError
from tf_dicom_ce.training import devices
from tf_dicom_ce.training.checkpoints import BestWeights, Checkpoint, Checkpoints, RunState
from tf_dicom_ce.whole_files import replacing

_SHORT = 5.0  # seconds


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a training."""

    #: (First step, parts of every batch as in `devices.host_parts`) -> endless batches.
    training: Callable[[int, tuple[int, int, int]], tf.data.Dataset]
    validation: tf.data.Dataset  # one pass
    rows_at: Callable[[int], list[int]]  # step -> its rows of the index, for messages


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Length of a run, and how often it is saved: after every epoch, and within epochs.

    Epochs shorter than five seconds are not all saved.
    """

    epochs: int
    steps_per_epoch: int
    minutes: float = 10.0  # between two checkpoints within an epoch
    steps: int | None = None  # between two checkpoints, in addition

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether to save after a step, `seconds` after the last checkpoint; NaN if unknown."""
        ends_epoch = step % self.steps_per_epoch == 0
        return (
            (ends_epoch and (not seconds <= _SHORT or step == self.total))
            or seconds > 60 * self.minutes
            or (self.steps is not None and step % self.steps == 0)
        )


def fit(
    model: keras.Model,
    data: Data,
    schedule: Schedule,
    monitor: str,
    callbacks: Sequence[keras.callbacks.Callback],
    run: Path,
    strategy: tf.distribute.Strategy,
) -> tuple[int, dict[str, float]]:
    """Trains a model as `train` does, and gives it the weights of its best epoch.

    The best epoch has the lowest value of `monitor`, a validation metric. `checkpoints/` and
    `best.weights.h5` are written to the folder `run`, by the chief only if there are several
    workers.

    Returns:
        The number of the best epoch, from 1, and its measures on the validation images.

    Raises:
        UserError: See `train`; or no epoch had a finite value of `monitor`.
        StoppedError: See `train`.
    """
    writes = devices.is_chief(strategy)
    best = BestWeights(monitor)
    checkpoints = Checkpoints(run / "checkpoints", writes=writes)
    evaluate = train(model, data, schedule, best, callbacks, checkpoints, strategy)
    epoch = best.restore()
    if writes:
        save_best(model, run)
    return epoch, evaluate()


def save_best(model: keras.Model, run: Path) -> None:
    """Writes `best.weights.h5` in the folder `run`."""
    with replacing(run / "best.weights.h5") as beside:
        model.save_weights(beside)


def train(
    model: keras.Model,
    data: Data,
    schedule: Schedule,
    best: BestWeights,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoints: Checkpoints,
    strategy: tf.distribute.Strategy,
) -> Callable:
    """Trains a model from its newest checkpoint, or from the start, to the end of the schedule.

    The model has to be compiled, with all variables created, in the scope of `strategy`. Callbacks
    get all calls of Keras' `fit`, `best` first; `model.stop_training` ends the run. A resume
    restores the attribute `state` (JSON values) of callbacks that have one; others start anew.

    Returns:
        Its `validation_pass`.

    Raises:
        UserError: A loss or an input is not finite; the message names step and rows.
        StoppedError: SIGTERM or Ctrl-C. The state has been saved, except with several workers,
            which would all have to save at the same step.
    """
    callbacks = [best, *callbacks]
    state = RunState(model, best, callbacks)
    checkpoint = checkpoints.latest()
    first = state.restore(checkpoint)
    checkpoints.require_space(state.size)
    params = {"epochs": schedule.epochs, "steps": schedule.steps_per_epoch, "first_step": first}
    told = keras.callbacks.CallbackList(callbacks, model=model, **params)
    model.stop_training = False
    told.on_train_begin()
    if first % schedule.steps_per_epoch:
        told.on_epoch_begin(first // schedule.steps_per_epoch)
        state.restore(checkpoint)  # restores what callbacks changed on_train_begin, too
    cluster = devices.is_cluster(strategy)
    devices.require_agreement(strategy, first)
    train_step, evaluate = training_step(model, strategy), validation_pass(model, data, strategy)
    batches = iter(
        strategy.distribute_datasets_from_function(
            lambda context: data.training(first, devices.host_parts(strategy, context))
        )
    )
    with _signals() as received, devices.other_workers(strategy):
        batch, of_epoch, saved = next(batches), {}, time.monotonic()
        for step in range(first, schedule.total):
            epoch, position = divmod(step, schedule.steps_per_epoch)
            if position == 0:
                model.reset_metrics()
                told.on_epoch_begin(epoch)
            told.on_train_batch_begin(position)
            logs, (finite, sound), batch = train_step(batch, batches)
            if not (finite and sound):
                _fail(step, epoch, bool(sound), data.rows_at(step))
            told.on_train_batch_end(position, {k: float(v) for k, v in logs.items()})
            if position + 1 == schedule.steps_per_epoch or model.stop_training:
                means = model.get_metrics_result()
                of_epoch = {name: float(means[name]) for name in logs}
                of_epoch |= {f"val_{name}": value for name, value in evaluate(told).items()}
                told.on_epoch_end(epoch, of_epoch)
            stopped = model.stop_training or (received and not cluster)
            seconds = math.nan if cluster else time.monotonic() - saved  # clocks differ
            if schedule.is_due(step + 1, seconds) or stopped:
                saved = time.monotonic()
                _save(checkpoints, state.at(step + 1))
            if model.stop_training:
                break
            if received and step + 1 < schedule.total:
                told.on_train_end(of_epoch)
                raise StoppedError(
                    f"stopped after step {step + 1} of {schedule.total}. The same command with "
                    f"--resume continues from {'the last checkpoint' if cluster else 'there'}.",
                    received[0],
                )
    told.on_train_end(of_epoch)
    return evaluate


def training_step(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable:
    """Makes a function: batch, batches -> measures, flags and the next batch.

    The measures are those of the first replica of this process, as in `fit`. The two flags say
    whether the measures of all replicas, and the batch, are finite. The next batch is fetched in
    parallel to the step.
    """

    def in_replica(batch):
        logs = model.train_step(batch)
        return logs, [_all_finite(list(logs.values())), _all_finite(tf.nest.flatten(batch))]

    @tf.function(autograph=False)
    def step(batch, batches):
        logs, flags = strategy.run(in_replica, args=(batch,))
        flags = [strategy.reduce("MEAN", flag, axis=None) == 1.0 for flag in flags]
        return _of_first(logs, strategy), flags, next(batches)

    return step


def validation_pass(model: keras.Model, data: Data, strategy: tf.distribute.Strategy) -> Callable:
    """Makes a function: callbacks to call, or None -> measures on the validation images.

    Every replica sees all validation images, so that no replica is ever without an example.
    """

    @tf.function(input_signature=[data.validation.element_spec], autograph=False)
    def step(batch):
        return _of_first(strategy.run(model.test_step, args=(batch,)), strategy)

    def evaluate(told: keras.callbacks.CallbackList | None = None) -> dict[str, float]:
        told = told or keras.callbacks.CallbackList()
        model.reset_metrics()
        told.on_test_begin()
        for k, batch in enumerate(data.validation):
            told.on_test_batch_begin(k)
            measures = {name: float(value) for name, value in step(batch).items()}
            told.on_test_batch_end(k, measures)
        told.on_test_end(measures)
        return measures

    return evaluate


def _of_first(logs: dict, strategy: tf.distribute.Strategy) -> dict:
    """The logs of the first replica of this process."""
    return {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}


def _all_finite(tensors: list[tf.Tensor]) -> tf.Tensor:
    floats = [t for t in tensors if t.dtype.is_floating]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(t)) for t in floats])
    return tf.cast(finite, tf.float32)


def _fail(step: int, epoch: int, sound: bool, rows: list[int]) -> None:
    fault = "a loss is not finite" if sound else "the images or tags are not finite"
    remedy = (
        "Lower the learning rates (--g-learning-rate, --d-learning-rate, --learning-rate) or use "
        "--precision float32, then start anew; or --resume to try again from the last checkpoint"
        if sound
        else "Look at these images"
    )
    raise UserError(
        f"step {step + 1} (epoch {epoch + 1}): {fault}. Rows of the batch, as numbered in "
        f"files.csv: {', '.join(map(str, rows))}. {remedy}."
    )


def _save(checkpoints: Checkpoints, checkpoint: Checkpoint) -> None:
    """Saves a checkpoint; a full disk costs the checkpoint, not the run."""
    try:
        checkpoints.save(checkpoint)
    except OSError as error:
        print(
            f"Step {checkpoint.step}: the checkpoint could not be written ({error.strerror}). The "
            "run continues. Free some space: a stop now would lose all since the last checkpoint.",
            file=sys.stderr,  # the progress bar does not overwrite it
        )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first SIGTERM or SIGINT; a second one ends the process at once."""
    received: list[int] = []

    def receive(number, frame):
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
