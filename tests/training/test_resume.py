"""Real processes, really killed; `benchmarks/kill_and_resume.py` does it at length."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"


@pytest.mark.slow
def test_killed_and_resumed_runs_equal_runs_left_alone():
    words = "--kills 1 --epochs 6 --longest 9 --what pretraining segmentation"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words.split()], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretraining: 1 kills; equal" in done.stdout
    assert "segmentation: 1 kills; equal" in done.stdout
