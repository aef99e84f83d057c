"""tf.data for all tasks, addressed by step.

Batch k of a run is a function of (seed, k) alone: which rows it holds, their order and their
augmentation. So a run can start at any step and sees what an uninterrupted run would have seen.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import tensorflow as tf

from tf_dicom_ce.data.augmentation import augment as augment_images
from tf_dicom_ce.data.preprocessing import standardise

#: Row numbers [n] -> frames uint8 [n, H, W, 1]; `Store.read` and `DirectReader.read`.
ReadFrames = Callable[[np.ndarray], np.ndarray]


class StepOrder:
    """Rows of every training step: each epoch is a permutation by (seed, epoch).

    Rows that do not fill a last batch are left out of that epoch; the next draws others.

    Args:
        rows: Row numbers, int [N].
        batch_size: Rows per step.
        seed: Seed of the run.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int):
        self.steps_per_epoch = max(1, len(rows) // batch_size)
        self._batch_size = batch_size
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(rows)
        )

    def rows_at(self, step: int) -> np.ndarray:
        """Row numbers of a step, int [batch_size] (fewer only where there are fewer rows)."""
        epoch, k = divmod(step, self.steps_per_epoch)
        return self._permutation(epoch)[k * self._batch_size : (k + 1) * self._batch_size]


def training_dataset(
    read: ReadFrames,
    y: np.ndarray,
    order: StepOrder,
    image_size: tuple[int, int],
    seed: int,
    augment: bool = False,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Endless batches (x, y) from `first_step` on.

    Args:
        read: Reads frames by row.
        y: Targets of all rows: encoded tags float32 [rows, L], labels or masks.
        order: Which rows make which step.
        image_size: Height and width of the frames.
        seed: Seeds the augmentation.
        augment: Whether to augment.
        first_step: Number of the first step.

    Returns:
        Dataset of x: float32 [N, H, W, 1], z-scored, and y of these rows.
    """
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)

    def batch(step):
        frames, targets = _read(read, y, order.rows_at, step, image_size)
        if augment:
            frames = augment_images(frames, seed, step)
        return standardise(frames), targets

    return steps.map(batch).prefetch(4)


def evaluation_dataset(
    read: ReadFrames, y: np.ndarray, rows: np.ndarray, batch_size: int, image_size: tuple[int, int]
) -> tf.data.Dataset:
    """Batches (x, y) of the given rows, once, in their order; the last may be smaller."""
    starts = tf.data.Dataset.range(0, len(rows), batch_size)

    def batch(start):
        frames, targets = _read(read, y, lambda k: rows[k : k + batch_size], start, image_size)
        return standardise(frames), targets

    return starts.map(batch).prefetch(4)


def spread(rows: np.ndarray, count: int = 6) -> np.ndarray:
    """Up to `count` of `rows`, spread evenly over them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]


def _read(read, y, rows_at, position, image_size):
    """Frames and targets of one batch through py_function, with their static shapes."""

    def load(position):
        rows = rows_at(int(position))
        return read(rows), y[rows]

    frames, targets = tf.py_function(load, [position], [tf.uint8, y.dtype])
    frames.set_shape((None, *image_size, 1))
    targets.set_shape((None, *y.shape[1:]))
    return frames, targets
