"""A real process, really killed; `python -m benchmarks kill_and_resume` does it at length."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks import kill_and_resume, report  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402

sys.path.remove(str(ROOT))


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_one_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(kill_and_resume, "_EPOCHS", 4)
    monkeypatch.setattr(report, "TRIAL", dataclasses.replace(report.TRIAL, least=1))
    words = ["--trial", "--minutes", "0", "--only", "pretraining", "--results", str(tmp_path)]
    assert main(["kill_and_resume", *words]) == 0
    lines = (tmp_path / "kill_and_resume.jsonl").read_text().splitlines()
    (found,) = (line["round"] for line in map(json.loads, lines) if "round" in line)
    assert found["pretraining"][0]["kills"] >= 1
    assert found["pretraining"][0]["difference"] == ""
