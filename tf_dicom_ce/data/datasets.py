"""tf.data for all tasks, addressed by step.

Batch k of a run is a function of (seed, k) alone: which rows it holds, their order and their
augmentation. So a run can start at any step and sees what an uninterrupted run would have seen.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import tensorflow as tf

from tf_dicom_ce.data.augmentation import augment as augment_images
from tf_dicom_ce.data.preprocessing import standardise

#: Row numbers [n] -> frames uint8 [n, H, W, 1]; `Store.read` and `DirectReader.read`.
ReadFrames = Callable[[np.ndarray], np.ndarray]


class StepOrder:
    """Rows of every training step: each epoch is a permutation by (seed, epoch).

    Rows that do not fill a last batch are left out of that epoch; the next draws others. With
    `probabilities`, an epoch is as many rows drawn by (seed, epoch), each anew from all of them.

    Args:
        rows: Row numbers, int [N].
        batch_size: Rows per step.
        seed: Seed of the run.
        probabilities: Of drawing each of `rows`, float [N], sum 1, as from `balanced`.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        probabilities: np.ndarray | None = None,
    ):
        self.steps_per_epoch = max(1, len(rows) // batch_size)
        self._batch_size = batch_size

        @lru_cache(maxsize=2)
        def epoch_rows(epoch):
            rng = np.random.default_rng([seed, epoch])
            if probabilities is None:
                return rng.permutation(rows)
            return rng.choice(rows, len(rows), p=probabilities)

        self._epoch_rows = epoch_rows

    def rows_at(self, step: int) -> np.ndarray:
        """Row numbers of a step, int [batch_size] (fewer only where there are fewer rows)."""
        epoch, k = divmod(step, self.steps_per_epoch)
        return self._epoch_rows(epoch)[k * self._batch_size : (k + 1) * self._batch_size]


def balanced(y: np.ndarray) -> np.ndarray:
    """Probabilities that make every combination of labels equally likely.

    p_i = 1 / (C n_i), where C is the number of combinations (distinct rows of y) and n_i how many
    rows have that of row i. All zeros, where nothing is known, are a combination like the others.

    Args:
        y: Encoded tags, float [N, L].

    Returns:
        float64 [N], sum 1.
    """
    _, combination, counts = np.unique(y, axis=0, return_inverse=True, return_counts=True)
    return 1.0 / (len(counts) * counts[combination.reshape(-1)])


def kept_tags(
    spans: Sequence[int], rate: float, seed: int, step: tf.Tensor, examples: tf.Tensor
) -> tf.Tensor:
    """Which tags of which examples training may know of, a pure function of (seed, step).

    Args:
        spans: Number of labels of each tag, in the order of y.
        rate: Probability with which a tag is taken as absent, over its whole span.
        seed: Seed of the run.
        step: Number of the step, int64 scalar.
        examples: N, int scalar.

    Returns:
        float32 [N, L], 1 where kept, 0 where not; L is the sum of `spans`.
    """
    # The augmentation folds in the positions 0, 1, …: −1 is a stream of its own.
    own = tf.random.fold_in(tf.stack([tf.cast(seed, tf.int64), step]), -1)
    kept = tf.random.stateless_uniform((examples, len(spans)), own) >= rate
    return tf.cast(tf.repeat(kept, spans, axis=1), tf.float32)


def training_dataset(
    read: ReadFrames,
    y: np.ndarray,
    order: StepOrder,
    image_size: tuple[int, int],
    seed: int,
    augment: bool = False,
    first_step: int = 0,
    parts: tuple[int, int, int] = (0, 1, 1),
    present: np.ndarray | None = None,
    spans: Sequence[int] = (),
    tag_dropout: float = 0.0,
) -> tf.data.Dataset:
    """Endless batches (x, y), or (x, y, present) where `present` is given, from `first_step` on.

    Args:
        read: Reads frames by row.
        y: Targets of all rows: encoded tags float32 [rows, L], labels or masks.
        order: Which rows make which step.
        image_size: Height and width of the frames.
        seed: Seeds the augmentation.
        augment: Whether to augment.
        first_step: Number of the first step.
        parts: First, count and total: of every batch, cut into `total` parts, these `count` parts
            one after the other; see `training.devices.Parts`. An example does not depend on them.
        present: 1 over the span of a tag that is known, float32 [rows, L].
        spans: Number of labels of each tag, in the order of y; for `tag_dropout`.
        tag_dropout: Probability with which a tag is taken as absent, see `kept_tags`.

    Returns:
        Dataset of x: float32 [N, H, W, 1], z-scored, and y (and present) of these rows.
    """
    arrays = (y,) if present is None else (y, present)
    first, count, total = parts
    numbers = tf.data.Dataset.range(first_step * count, np.iinfo(np.int64).max)

    def locate(number):
        rows = order.rows_at(number // count)
        positions = np.array_split(np.arange(len(rows)), total)[first + number % count]
        return rows[positions], positions, len(rows)

    def batch(number):
        step = number // count
        frames, positions, size, *targets = _read(read, arrays, locate, number, image_size)
        if augment:
            frames = augment_images(frames, seed, step, positions)
        if tag_dropout:
            kept = tf.gather(kept_tags(spans, tag_dropout, seed, step, size), positions)
            targets = [target * kept for target in targets]
        return standardise(frames), *targets

    return numbers.map(batch).prefetch(4)


def evaluation_dataset(
    read: ReadFrames,
    y: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    image_size: tuple[int, int],
    present: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches as in `training_dataset`, once, in the rows' order; the last may be smaller."""
    arrays = (y,) if present is None else (y, present)
    starts = tf.data.Dataset.range(0, len(rows), batch_size)

    def locate(start):
        chosen = rows[start : start + batch_size]
        return chosen, np.arange(len(chosen)), len(chosen)

    def batch(start):
        frames, _, _, *targets = _read(read, arrays, locate, start, image_size)
        return standardise(frames), *targets

    return starts.map(batch).prefetch(4)


def spread(rows: np.ndarray, count: int = 6) -> np.ndarray:
    """Up to `count` of `rows`, spread evenly over them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]


def _read(read, arrays, locate, number, image_size):
    """Reads a batch or a part of it through py_function.

    Args:
        read: Reads frames by row.
        arrays: What else is known of every row.
        locate: Number -> rows, their positions in the whole batch, size of the whole batch.
        number: Scalar.
        image_size: Height and width of the frames.

    Returns:
        Frames, positions, size, and the rows' entries of all arrays, with static shapes.
    """

    def load(number):
        rows, positions, size = locate(int(number))
        return read(rows), positions, size, *(array[rows] for array in arrays)

    dtypes = [tf.uint8, tf.int64, tf.int64, *(array.dtype for array in arrays)]
    frames, positions, size, *targets = tf.py_function(load, [number], dtypes)
    frames.set_shape((None, *image_size, 1))
    positions.set_shape((None,))
    size.set_shape(())
    for target, array in zip(targets, arrays, strict=True):
        target.set_shape((None, *array.shape[1:]))
    return frames, positions, size, *targets
