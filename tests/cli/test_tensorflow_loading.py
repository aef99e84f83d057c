"""Threads of small steps."""

import os

import pytest

from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
from tf_dicom_ce.config import PRESETS

THREADS = "TF_NUM_INTRAOP_THREADS"


@pytest.mark.parametrize(
    "preset, cores, set_before, expected",
    [
        ("quick", 2, None, "1"),
        ("quick", 2, "2", "2"),
        ("quick", 8, None, None),
        ("paper", 2, None, None),
    ],
)
def test_small_steps_on_two_cores_have_one_thread_an_op(
    monkeypatch, preset, cores, set_before, expected
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "environ", {THREADS: set_before} if set_before else {})
    load_tensorflow(start_devices=False, small_steps=PRESETS[preset].has_small_steps)
    assert os.environ.get(THREADS) == expected
