"""Loads TensorFlow without its notes on this machine's CPU and absent GPU drivers."""

import contextlib
import os
import tempfile


def load_tensorflow(start_devices: bool = True, small_steps: bool = False) -> None:
    """Imports TensorFlow and starts its devices with file descriptor 2 turned away.

    TensorFlow 2.21 writes these notes from C++ before any log level is in force. What was written
    is shown after all where the import fails.

    Args:
        start_devices: False where a cluster has to be set up before.
        small_steps: Whether the ops of a training step are too small to be shared by threads. On
            two cores they then run beside each other, each on one core (see `in_halves`); a
            number of threads in the environment stands. (More cores: not measured, TensorFlow's
            default.)
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    one_thread = small_steps and os.cpu_count() == 2 and "TF_NUM_INTRAOP_THREADS" not in os.environ
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
