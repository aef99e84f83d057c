"""Where a step runs: one device, all of this machine (mirrored), or several machines (multiworker).

Under a strategy, every replica works on its part of the batch. Losses are divided by the size of
the whole batch, and gradients are summed. So the number of replicas does not change the training,
except for BatchNorm, which takes its batch statistics over the part of its replica.
"""

import contextlib
import traceback
from collections.abc import Iterator

import tensorflow as tf

from tf_dicom_ce.errors import UserError

# Errors that TensorFlow raises when another worker has stopped.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


def open_strategy(name: str, batch_size: int) -> tf.distribute.Strategy:
    """Opens `none`, `mirrored` or `multiworker`; call it before any other use of TensorFlow.

    Raises:
        UserError: `multiworker` without a cluster (the environment variable TF_CONFIG), or a batch
            that does not divide evenly among the replicas.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        strategy = tf.distribute.MirroredStrategy()
    else:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if not resolver.cluster_spec().jobs:
            raise UserError(
                "--strategy multiworker: the environment variable TF_CONFIG is not set. "
                "See docs/devices.md."
            )
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    require_parts(strategy, batch_size)
    return strategy


def require_parts(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises UserError unless all replicas get the same number of a batch's images."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"--batch-size {batch_size}: {batch_size} images do not divide evenly among the "
            f"{replicas} replicas. Choose a multiple of their number."
        )


def is_cluster(strategy: tf.distribute.Strategy) -> bool:
    """True with several workers; all of them have to call collective ops at the same step."""
    return strategy.cluster_resolver is not None and bool(strategy.cluster_resolver.task_type)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """True for the process that writes: the only process, the chief, or worker 0."""
    if not is_cluster(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def host_parts(
    strategy: tf.distribute.Strategy, context: tf.distribute.InputContext
) -> tuple[int, int, int]:
    """The parts of a batch that this host reads: first part, own replicas, all replicas."""
    total = strategy.num_replicas_in_sync
    count = total // context.num_input_pipelines
    return context.input_pipeline_id * count, count, total


def require_agreement(strategy: tf.distribute.Strategy, step: int) -> None:
    """Raises UserError unless all workers resume at the same step, from the same run folder."""

    @tf.function(autograph=False)
    def total():
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(mine)), axis=None)

    mine = tf.constant(step, tf.int64)
    if int(total()) != step * strategy.num_replicas_in_sync:
        raise UserError(
            "--run: the workers found different checkpoints. Give all workers the same folder on a "
            "shared disk."
        )


@contextlib.contextmanager
def other_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the loss of another worker into a UserError."""
    try:
        yield
    except _GONE as error:
        if not is_cluster(strategy):
            raise
        # TensorFlow leaves a thread pool open in a frame of the traceback. If the pool lived until
        # the end of the process, the process would end with another traceback.
        traceback.clear_frames(error.__traceback__)
        raise UserError(
            f"another worker has stopped ({type(error).__name__}). Start all workers again with "
            "--resume to continue from the last checkpoint."
        ) from None
