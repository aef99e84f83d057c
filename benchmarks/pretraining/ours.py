"""The pretraining step of this project, as `training.loop` runs it."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.sizes import from_json
from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

load_tensorflow(start_devices=False)

import tensorflow as tf  # noqa: E402

from tf_dicom_ce.config import PretrainConfig  # noqa: E402
from tf_dicom_ce.data.datasets import StepOrder, training_dataset  # noqa: E402
from tf_dicom_ce.data.store import Store, mapped  # noqa: E402
from tf_dicom_ce.models.gan import ContextEncoderGAN  # noqa: E402
from tf_dicom_ce.training.loop import training_step  # noqa: E402
from tf_dicom_ce.training.networks import build_pretraining  # noqa: E402

_END = 0.002  # most seconds from the last op of a step until Python continues


def compiled(config: PretrainConfig, labels: int) -> ContextEncoderGAN:
    """The model with its optimizers; sets the process's threads as such a training does."""
    load_tensorflow(training=config)
    return build_pretraining(config, labels)


def batch(config: PretrainConfig, labels: int) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Random images like z-scored ones, [N, H, W, 1], and tags [N, L], all known."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((config.batch_size, *config.image_size, 1), np.float32)
    y = rng.integers(0, 2, (config.batch_size, labels)).astype(np.float32)
    return tf.constant(x), {"tags": tf.constant(y), "known": tf.ones_like(y)}


def tasks(preset: dict, labels: int, store: str | None = None, device: str = "cpu") -> dict:
    """The contender.

    Args:
        preset: Settings.
        labels: Length L of y.
        store: A generated store.
        device: `cpu` or `cuda`: the first GPU, whose peak of memory is measured, too.

    Returns:
        `step` on a prepared batch, with `joint`, the mean of that loss since the start; with a
        store also `read`, the next batch alone, and `step from the store`, which also measures
        `waited`, the most seconds for which it waited for the next batch.
    """
    config = from_json(preset)
    tf.keras.utils.set_random_seed(0)
    train_step = training_step(compiled(config, labels), tf.distribute.get_strategy())

    def step(batch, batches):
        logs, (finite, sound), following = train_step(batch, batches)
        if not (finite and sound):
            raise RuntimeError("A loss is not finite.")
        return float(logs["joint"]), following

    ready = batch(config, labels)
    at_hand = _AtHand(ready)

    def step_at_hand():
        measures = {"joint": step(ready, at_hand)[0]}
        if device == "cuda":
            measures["device"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return measures

    found = {"step": step_at_hand}
    if store is None:
        return found
    batches = iter(batches_of(Path(store), config, labels))
    timed = _Timed(batches)
    state = {"batch": next(batches)}

    def step_from_store():
        start = time.time()
        _, state["batch"] = step(state["batch"], timed)
        return {"waited": timed.waited(start)}

    def read():
        next(batches)

    return {**found, "read": read, "step from the store": step_from_store}


class _AtHand:
    """Yields the same batch for ever, without an iterator."""

    def __init__(self, batch: tuple):
        self._batch = batch

    def __next__(self):
        return self._batch


class _Timed:
    """Measures when a batch that was fetched within a step arrived."""

    def __init__(self, batches: Iterator):
        self._batches = batches
        self._came = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def __next__(self):
        data = next(self._batches)
        with tf.control_dependencies(tf.nest.flatten(data)):
            self._came.assign(tf.timestamp())
        return data

    def waited(self, start: float) -> float:
        """Seconds for which a step from `start` until now waited for the next batch, at most.

        A batch that arrived before the step's other results caused no wait. For a batch that
        arrived last, the step may have waited all the time.
        """
        came = float(self._came)
        return 0.0 if time.time() - came > _END else came - start


def batches_of(store: Path, config: PretrainConfig, labels: int) -> tf.data.Dataset:
    """The training batches of a generated store, opened as `open_store` opens one."""
    file, (height, width) = store / "images.bin", config.image_size
    rows = np.arange(file.stat().st_size // (height * width))
    images = mapped(file, (len(rows), height, width))
    frames = Store(images, rows, np.zeros((len(rows), 6), np.int32), {}, "")
    y = np.zeros((len(rows), labels), np.float32)
    targets = {"tags": y, "known": np.ones_like(y)}
    order = StepOrder(rows, config.batch_size, config.seed)
    return training_dataset(frames, targets, order, config.seed)
