"""Where a step runs: one device, all of this machine (mirrored), or several machines (multiworker).

Under a strategy every replica works on its part of the batch; losses are divided by the size of the
whole batch and gradients are summed, so that the number of replicas does not change the training,
but for BatchNorm, which takes its batch statistics over the part that it sees.
"""

import contextlib
import traceback
from collections.abc import Iterator

import tensorflow as tf

from tf_dicom_ce.errors import UserError

# What TensorFlow raises when another worker has gone.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


def open_strategy(name: str, batch_size: int) -> tf.distribute.Strategy:
    """Opens `none`, `mirrored` or `multiworker`, before anything else of TensorFlow is used.

    Raises:
        UserError: There is no cluster (the environment's TF_CONFIG) for `multiworker`, or the batch
            does not divide among the replicas.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        strategy = tf.distribute.MirroredStrategy()
    else:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if not resolver.cluster_spec().jobs:
            raise UserError(
                "--strategy multiworker: the environment has no TF_CONFIG; see docs/devices.md."
            )
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    require_parts(strategy, batch_size)
    return strategy


def require_parts(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises UserError unless all replicas get the same number of a batch's images."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"--batch-size {batch_size}: a batch of {batch_size} images is no multiple of the "
            f"{replicas} replicas that share it."
        )


def is_cluster(strategy: tf.distribute.Strategy) -> bool:
    """True for one of several workers: what reads all of them, all have to do at the same step."""
    return strategy.cluster_resolver is not None and bool(strategy.cluster_resolver.task_type)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """True for the process that writes: the only one, the chief, or else worker 0."""
    if not is_cluster(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def host_parts(
    strategy: tf.distribute.Strategy, context: tf.distribute.InputContext
) -> tuple[int, int, int]:
    """The parts of every batch that this host reads: the first, how many (its replicas), of all."""
    total = strategy.num_replicas_in_sync
    count = total // context.num_input_pipelines
    return context.input_pipeline_id * count, count, total


def require_agreement(strategy: tf.distribute.Strategy, step: int) -> None:
    """Raises UserError unless all workers go on from the same step: from the same run folder."""

    @tf.function(autograph=False)
    def total():
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(mine)), axis=None)

    mine = tf.constant(step, tf.int64)
    if int(total()) != step * strategy.num_replicas_in_sync:
        raise UserError(
            "--run: the workers found different checkpoints. Give all of them the same folder, on "
            "a disk that they share."
        )


@contextlib.contextmanager
def other_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the loss of another worker into a UserError."""
    try:
        yield
    except _GONE as error:
        if not is_cluster(strategy):
            raise
        # TensorFlow leaves a pool of threads open in a frame of the traceback. Kept until the end
        # of the process, it would end with a traceback of its own.
        traceback.clear_frames(error.__traceback__)
        raise UserError(
            f"another worker has gone ({type(error).__name__}). Start all workers again with "
            "--resume: they go on from the last checkpoint."
        ) from None
