"""Loads TensorFlow without its notes on this machine's CPU and absent GPU drivers."""

import contextlib
import math
import os
import tempfile

from tf_dicom_ce.config import PretrainConfig


def load_tensorflow(start_devices: bool = True, training: PretrainConfig | None = None) -> None:
    """Imports TensorFlow and starts its devices (unless a cluster has to be set up before).

    TensorFlow 2.21 writes notes from C++ before any log level is in force, so file descriptor 2 is
    redirected during the import. If the import fails, the notes are shown.

    If a step of the following `training` takes less than about 32 GFLOP, as in `quick`, its ops are
    too small to share between threads. On two cores, two ops then run in parallel, each on one core
    (see `in_halves`), unless the environment sets a number of threads. Not measured on more cores.
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
                with contextlib.suppress(RuntimeError):  # TensorFlow is running already
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
