"""What lies in the working folder is data: no child process runs it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tf_dicom_ce.child_process import python_module, run_child

#: Modules that Python, multiprocessing and our libraries import, or look for.
TRAPS = (
    *("selectors", "runpy", "signal", "numpy", "gdcm", "pydicom", "PIL", "sitecustomize"),
    *("tf_dicom_ce", "tensorflow", "importlib"),
)


@pytest.fixture
def received(write, tmp_path):
    """A received folder: three images, and files that report if they are run."""
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 30), dtype=np.uint8)
        write(f"received/{k}", pixels, StudyDescription="US LIVER", PatientID=f"P{k % 2}")
    for name in TRAPS:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + '\\n')\nraise ImportError\n"
        (tmp_path / "received" / f"{name}.py").write_text(text)
    return tmp_path / "received"


def test_workers_import_nothing_from_it(received, tmp_path):
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text("import sys\nfrom tf_dicom_ce.cli import main\nsys.exit(main())\n")
    words = [sys.executable, str(script), "index", ".", "--run", str(tmp_path / "run")]
    done = subprocess.run(words, cwd=received, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 images of 2 patients" in done.stdout
    assert (tmp_path / "run" / "coverage.html").read_text().count("<img ") == 6  # liver, abdomen
    assert not (tmp_path / "ran").exists()


def test_commands_in_processes_of_their_own_import_nothing_from_it(received, tmp_path, monkeypatch):
    monkeypatch.chdir(received)
    command = (*python_module("tf_dicom_ce.cli.child"), "index", ".", "--run", "../run")
    run_child(command, tmp_path / "log", os.environ)
    assert "3 images of 2 patients" in (tmp_path / "log").read_text()
    assert not (tmp_path / "ran").exists()
