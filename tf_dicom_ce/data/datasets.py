"""tf.data for all tasks, addressed by step.

The rows, their order and the augmentation of batch k depend on (seed, k) only. So a run can start
at any step and sees the same batches as an uninterrupted run.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_dicom_ce.data.augmentation import augment as augment_images
from tf_dicom_ce.data.store import Frames
from tf_dicom_ce.preprocessing import standardise

#: An array indexed by row number, or a dict of such arrays.
Targets = np.ndarray | dict[str, np.ndarray]


#: AutoGraph would look for control flow for longer than TensorFlow traces the function.
_AS_IT_IS = tf.autograph.experimental.do_not_convert


class StepOrder:
    """Rows of every training step: each epoch is a permutation by (seed, epoch).

    An epoch leaves out the rows that do not fill a last batch; every epoch leaves out other rows.
    With `probabilities`, an epoch draws the same number of rows with replacement by (seed, epoch).

    Args:
        rows: Row numbers, int [N].
        batch_size: Rows per step; the attribute is smaller if there are fewer rows.
        seed: Seed of the run.
        probabilities: Probability of drawing each row, float [N], sum 1, as from `balanced`.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        probabilities: np.ndarray | None = None,
    ):
        self.batch_size = min(batch_size, len(rows))
        self.steps_per_epoch = len(rows) // self.batch_size
        self._rows, self._seed, self._probabilities = rows, seed, probabilities

    def epoch(self, number: int) -> np.ndarray:
        """Row numbers of all steps of an epoch, int64 [steps_per_epoch, batch_size]."""
        rng = np.random.default_rng([self._seed, number])
        if self._probabilities is None:
            rows = rng.permutation(self._rows)
        else:
            rows = rng.choice(self._rows, len(self._rows), p=self._probabilities)
        used = rows[: self.steps_per_epoch * self.batch_size]
        return used.reshape(-1, self.batch_size).astype(np.int64)

    def rows_at(self, step: int) -> np.ndarray:
        """Row numbers of a step, int64 [batch_size]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[position]


def balanced(y: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [N], sum 1, that make every combination of labels equally likely.

    p_i = 1 / (C n_i), where C is the number of combinations, i.e. distinct rows of the encoded tags
    y, float [N, L], and n_i the number of rows equal to row i. All zeros, where nothing is known,
    count as a combination.
    """
    _, combination, counts = np.unique(y, axis=0, return_inverse=True, return_counts=True)
    return 1.0 / (len(counts) * counts[combination.reshape(-1)])


def kept_tags(
    spans: Sequence[int], rate: float, seed: int, step: tf.Tensor, examples: tf.Tensor
) -> tf.Tensor:
    """Draws which tags of N examples are kept, a pure function of (seed, step).

    With probability `rate`, a tag is treated as absent, over its whole span. `spans` are the
    numbers of labels of the tags, in the order of y.

    Returns:
        float32 [N, L], 1 where kept, 0 where not; L is the sum of `spans`.
    """
    # The augmentation folds in the positions 0, 1, …; −1 gives a separate stream.
    own = tf.random.fold_in(tf.stack([tf.cast(seed, tf.int64), step]), -1)
    kept = tf.random.stateless_uniform((examples, len(spans)), own) >= rate
    return tf.cast(tf.repeat(kept, spans, axis=1), tf.float32)


def training_dataset(
    source: Frames,
    targets: Targets,
    order: StepOrder,
    seed: int,
    augment: bool = False,
    first_step: int = 0,
    parts: tuple[int, int, int] = (0, 1, 1),
    spans: Sequence[int] = (),
    tag_dropout: float = 0.0,
) -> tf.data.Dataset:
    """Endless batches (image, target) from `first_step` on.

    Python runs once per epoch, for its order. The rest is TensorFlow, except for `source`.

    Args:
        source: Frames by row.
        targets: Targets of all rows: classes [rows], masks [rows, H, W], or a dict of tags and
            known tags, float32 [rows, L] each.
        order: The rows of every step.
        seed: Seed of the augmentation.
        augment: Whether to augment.
        first_step: Number of the first step.
        parts: (first, count, total): cuts every batch into `total` parts and yields `count` of them
            from `first` on, one after the other. The examples do not depend on it.
        spans: Number of labels of each tag, in the order of the columns; for `tag_dropout`.
        tag_dropout: Probability of treating a tag as absent, see `kept_tags`.

    Returns:
        Dataset of images, float32 [N, H, W, 1], z-scored, and `targets` of these rows.
    """
    targets = _on_host(targets)
    first, count, total = parts
    ends = np.cumsum([0, *map(len, np.array_split(np.arange(order.batch_size), total))])
    size = None if order.batch_size % total else order.batch_size // total
    first_epoch, position = divmod(first_step, order.steps_per_epoch)

    @_AS_IT_IS
    def rows_of(epoch):
        rows = tf.py_function(lambda epoch: order.epoch(int(epoch)), [epoch], tf.int64)
        rows = tf.ensure_shape(rows, (order.steps_per_epoch, order.batch_size))
        return tf.repeat(rows, count, axis=0)

    @_AS_IT_IS
    def prepare(number, rows):
        step, part = number // count, first + number % count
        positions = tf.range(tf.gather(ends, part), tf.gather(ends, part + 1))
        positions = tf.ensure_shape(positions, [size])
        rows = tf.gather(rows, positions)
        frames, target = source.read(rows), _gather(targets, rows)
        if augment:
            is_mask = isinstance(target, tf.Tensor) and target.shape.rank == 3
            masks = target if is_mask else None
            frames, masks = augment_images(frames, seed, step, positions, masks)
            target = masks if is_mask else target
        if tag_dropout:
            kept = tf.gather(kept_tags(spans, tag_dropout, seed, step, order.batch_size), positions)
            target = tf.nest.map_structure(lambda array: array * kept, target)
        return standardise(frames), target

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    rows = epochs.map(rows_of).prefetch(1).unbatch().skip(position * count)
    return _ahead(rows.enumerate(first_step * count), prepare, source.at_once)


def evaluation_dataset(
    source: Frames,
    targets: Targets,
    rows: np.ndarray,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    augment: bool = False,
) -> tf.data.Dataset:
    """Batches as in `training_dataset`, but one pass over the rows; the last may be smaller.

    With `shuffle` every pass has another order by the seed; with `augment`, another augmentation.
    """
    targets = _on_host(targets)
    numbers = tf.data.Dataset.from_tensor_slices(rows)
    if shuffle:
        numbers = numbers.shuffle(len(rows), seed)

    @_AS_IT_IS
    def prepare(rows, draw=None):
        frames = source.read(rows)
        if augment:
            positions = tf.range(tf.size(rows, tf.int64))
            frames, _ = augment_images(frames, seed, draw, positions)
        return standardise(frames), _gather(targets, rows)

    batches = numbers.batch(batch_size)
    if augment:
        draws = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
        batches = tf.data.Dataset.zip(batches, draws)
    return _ahead(batches, prepare, source.at_once)


def spread(rows: np.ndarray, count: int = 6) -> np.ndarray:
    """Up to `count` of `rows`, spread evenly over them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]


def _on_host(targets: Targets) -> Targets:
    with tf.device("CPU"):
        return tf.nest.map_structure(tf.convert_to_tensor, targets)


def _gather(targets: Targets, rows: tf.Tensor) -> Targets:
    return tf.nest.map_structure(lambda array: tf.gather(array, rows), targets)


def _ahead(rows: tf.data.Dataset, prepare: Callable, at_once: int) -> tf.data.Dataset:
    """Prepares batches ahead of the steps, `at_once` at a time.

    TensorFlow's default rewrites are off: they would copy all data that a dataset refers to, even a
    mapped store, into memory.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    batches = rows.map(prepare, num_parallel_calls=at_once if at_once > 1 else None)
    return batches.prefetch(16).with_options(options)
