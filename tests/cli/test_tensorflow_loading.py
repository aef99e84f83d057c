"""Threads of small steps, and what is not imported."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
from tf_dicom_ce.config import PRESETS


@pytest.mark.parametrize(
    "preset, cores, environment, expected",
    [
        ("quick", 2, {}, [1]),
        ("quick", 2, {"TF_NUM_INTRAOP_THREADS": "2"}, []),
        ("quick", 8, {}, []),
        ("paper", 2, {}, []),
    ],
)
def test_small_steps_on_two_cores_have_one_thread_an_op(
    monkeypatch, preset, cores, environment, expected
):
    threads = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", threads.append)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "environ", environment)
    load_tensorflow(start_devices=False, training=PRESETS[preset])
    assert threads == expected


def test_threads_stay_where_tensorflow_runs_already(monkeypatch):
    before = tf.config.threading.get_intra_op_parallelism_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "environ", {})
    tf.constant(0.0)
    load_tensorflow(training=PRESETS["quick"])
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


_WITHOUT = """
import sys
from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
load_tensorflow()
print(*sorted({"matplotlib", "sklearn", "scipy.stats"} & {*sys.modules}))
import keras, matplotlib.pyplot, sklearn.metrics
print(keras.ops.sum([1.0, 2.0]).numpy(), sklearn.metrics.accuracy_score([1], [1]))
"""


def test_keras_does_not_import_what_no_command_uses():
    """Both are there afterwards, for those who do."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True)
    assert done.stdout == "\n3.0 1.0\n", done.stderr


def test_a_training_starts_without_scikit_learn():
    code = "import sys, tf_dicom_ce.training.pretrain; sys.exit('sklearn' in sys.modules)"
    load = "from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow; load_tensorflow(); "
    assert subprocess.run([sys.executable, "-c", load + code]).returncode == 0
