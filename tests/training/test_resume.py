"""A real process, really killed; `python -m benchmarks kill_and_resume` does it at length."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.__main__ import main  # noqa: E402

sys.path.remove(str(ROOT))


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_one_left_alone(capsys):
    words = "--kills 1 --epochs 3 --from-step 3 --longest 1 --what pretraining"
    assert main(["kill_and_resume", *words.split()]) == 0
    out = capsys.readouterr().out
    (step,) = re.findall(r"kill 1: at step (\d+)", out)
    assert int(step) >= 3
    assert "pretraining: 1 kills; equal" in out
