"""Loads TensorFlow without its notes on this machine's CPU and absent GPU drivers."""

import contextlib
import math
import os
import tempfile

from tf_dicom_ce.config import PretrainConfig


def load_tensorflow(start_devices: bool = True, training: PretrainConfig | None = None) -> None:
    """Imports TensorFlow and starts its devices (unless a cluster has to be set up before).

    TensorFlow 2.21 writes notes from C++ before any log level is in force, so file descriptor 2 is
    turned away. What was written is shown after all where the import fails.

    Steps of less than some 32 GFLOP of a `training` that follows, as of `quick`, have ops too small
    to be shared by threads: on two cores they run beside each other, each on one core (see
    `in_halves`); a number of threads in the environment stands. (More cores: not measured.)
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    one_thread = (
        training is not None
        and training.batch_size * math.prod(training.image_size) * training.width**2 <= 16384
        and os.cpu_count() == 2
        and "TF_NUM_INTRAOP_THREADS" not in os.environ
    )
    if one_thread:
        os.environ.setdefault("TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD", "1")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow as tf

            if one_thread:
                with contextlib.suppress(RuntimeError):  # it runs already, on the threads it has
                    tf.config.threading.set_intra_op_parallelism_threads(1)
            if start_devices:
                tf.config.list_logical_devices()
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
