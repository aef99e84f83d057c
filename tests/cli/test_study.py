"""A study from its TOML file to its report: a pretraining, probes of it and of random weights."""

import csv

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.cli import main

TOML = """
arms = ["none", "ce"]
seeds = [0]
counts = [6]
readouts = ["probe"]
tasks = ["discs"]
effect = 0.1
[pretraining]
data = "images"
preset = "quick"
image_size = [32, 64]
width = 0.03125
epochs = 1
[discs]
task = "segmentation"
data = "discs"
labels = "discs/labels.csv"
preset = "quick"
image_size = [32, 64]
width = 0.03125
draws = 2
"""


@pytest.fixture
def place(tmp_path, write, monkeypatch):
    """12 DICOM files of six patients, and 30 pictures of discs with masks, already split."""
    rng = np.random.default_rng(0)
    for k in range(12):
        pixels = rng.integers(0, 200, (40, 60)).astype(np.uint8)
        write(f"images/{k}", pixels, PatientID=f"P{k // 2}")
    (tmp_path / "discs").mkdir()
    y, x = np.mgrid[:32, :64]
    lines = ["path,mask,patient,split"]
    for k in range(30):
        disc = np.hypot(y - 16, x - rng.integers(16, 48)) < 9
        pixels = rng.integers(0, 90, (32, 64)) + 120 * disc
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "discs" / f"{k}.png")
        Image.fromarray(disc.astype(np.uint8)).save(tmp_path / "discs" / f"{k}_mask.png")
        lines.append(f"{k}.png,{k}_mask.png,{k},{('train', 'validation', 'test')[k // 10]}")
    (tmp_path / "discs" / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "mine.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_probes_in_a_study(place, capsys):
    assert main(["study", "mine.toml"]) == 0
    assert "Jobs: 3 done." in capsys.readouterr().out
    study = place / "studies" / "mine"
    with (study / "table2.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    for arm in ("none", "ce"):
        assert (rows[arm]["readout"], rows[arm]["labels"], rows[arm]["seeds"]) == (
            "probe",
            "6",
            "1",
        )
        with (study / "jobs/discs" / arm / "probe/6/seed-0/test.csv").open(newline="") as file:
            of_images = [float(row["dice"]) for row in csv.DictReader(file)]
        assert len(of_images) == 10
        assert float(rows[arm]["mean"]) == pytest.approx(np.mean(of_images), abs=1e-6)
    with (study / "comparisons.csv").open(newline="") as file:
        (compared,) = csv.DictReader(file)
    assert (compared["a"], compared["b"], compared["verdict"]) == ("ce", "none", "not shown")
    before = (study / "table2.csv").read_bytes()
    assert main(["study", "mine.toml"]) == 0  # nothing is done twice
    assert "3 of 3 jobs ended before" in capsys.readouterr().err
    assert (study / "table2.csv").read_bytes() == before
