"""The pretraining step of this project, as `training.loop` runs it."""

import time
from pathlib import Path

import numpy as np

from benchmarks.sizes import from_json
from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

load_tensorflow(start_devices=False)

import tensorflow as tf  # noqa: E402

from tf_dicom_ce.config import PretrainConfig  # noqa: E402
from tf_dicom_ce.data.datasets import StepOrder, training_dataset  # noqa: E402
from tf_dicom_ce.data.store import Store, mapped  # noqa: E402
from tf_dicom_ce.training.gan import ContextEncoderGAN  # noqa: E402
from tf_dicom_ce.training.loop import _train_step  # noqa: E402


def compiled(config: PretrainConfig, labels: int) -> ContextEncoderGAN:
    """The model with its optimizers; the process's threads are those of such a training."""
    load_tensorflow(small_steps=config.has_small_steps)
    model = ContextEncoderGAN(config, labels)
    model.compile()
    return model


def batch(config: PretrainConfig, labels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Images like z-scored ones, [N, H, W, 1], and tags [N, L]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((config.batch_size, *config.image_size, 1), np.float32)
    y = rng.integers(0, 2, (config.batch_size, labels)).astype(np.float32)
    return tf.constant(x), tf.constant(y)


def tasks(preset: dict, labels: int, store: str | None = None) -> dict:
    """The contender.

    Args:
        preset: Settings.
        labels: Length L of y.
        store: A generated store.

    Returns:
        `step` on a batch that is ready; with a store also `read`, the next batch alone, and
        `step from the store`, which tells for how many seconds it `waited` for its batch.
    """
    config = from_json(preset)
    train_step = _train_step(compiled(config, labels), tf.distribute.get_strategy())

    def step(data):
        finite, sound = train_step(data)
        if not (finite and sound):
            raise RuntimeError("A loss is not finite.")

    ready = batch(config, labels)
    found = {"step": lambda: step(ready)}
    if store is None:
        return found
    batches = iter(batches_of(Path(store), config, labels))

    def step_from_store():
        start = time.perf_counter()
        data = next(batches)
        waited = time.perf_counter() - start
        step(data)
        return {"waited": waited}

    def read():
        next(batches)

    return {**found, "read": read, "step from the store": step_from_store}


def batches_of(store: Path, config: PretrainConfig, labels: int) -> tf.data.Dataset:
    """The training batches of a generated store, opened as `open_store` opens one."""
    images = mapped(store / "images.npy")
    frames = Store(images, np.zeros((len(images), 6), np.int32), {}, built=False)
    rows = np.arange(len(images))
    y = np.zeros((len(rows), labels), np.float32)
    order = StepOrder(rows, config.batch_size, config.seed)
    return training_dataset(frames, y, order, config.seed)
