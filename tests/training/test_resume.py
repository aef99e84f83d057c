"""Real processes, really killed; `python -m benchmarks kill_and_resume` does it at length."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_and_resumed_runs_equal_runs_left_alone():
    words = "--kills 1 --epochs 6 --from-step 3 --longest 2 --what pretraining segmentation"
    command = [sys.executable, "-m", "benchmarks", "kill_and_resume", *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [int(step) for step in re.findall(r"kill 1: at step (\d+)", done.stdout)]
    assert len(steps) == 2
    assert min(steps) >= 3
    assert "pretraining: 1 kills; equal" in done.stdout
    assert "segmentation: 1 kills; equal" in done.stdout
