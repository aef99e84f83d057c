"""Threads of small steps."""

import os

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
