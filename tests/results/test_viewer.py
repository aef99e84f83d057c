"""OHIF shows masks and reports where they belong, frame by frame: looked at by pixels."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.viewer
ROOT = Path(__file__).parents[2]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture
def ohif():
    """The folder that has OHIF's files. To fetch them takes longer than the tests have."""
    folder = os.environ.get("TF_DICOM_CE_OHIF")
    return folder or pytest.skip("needs TF_DICOM_CE_OHIF, a folder with OHIF: see docs/serving.md")


def test_masks_and_reports_lie_on_the_organ(ohif, write, program, as_root, tmp_path):
    """A bright ellipse moves over three frames; the benchmark takes it for the organ."""
    for name, package in (("Orthanc", "orthanc"), ("chromium", "chromium"), ("ip", "iproute2")):
        program(name, package)
    if not PLUGIN.exists():
        pytest.skip(f"needs {PLUGIN}: apt-get install orthanc-dicomweb")
    rows, columns = np.mgrid[:240, :320]
    frames = np.full((3, 240, 320), 30, np.uint8)
    for k, frame in enumerate(frames):
        row, column = 90 + 20 * k, 90 + 40 * k
        frame[((rows - row) / 40) ** 2 + ((columns - column) / 60) ** 2 < 1] = 200
    elements = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "SeriesInstanceUID": "1.2.4"}
    elements |= {"NumberOfFrames": 3, "PixelData": frames.tobytes(), "Modality": "US"}
    path = write("cine.dcm", frames[0], StudyInstanceUID="1.2.3", **elements)
    words = [sys.executable, "-m", "benchmarks", "viewer", str(path), "--ohif", str(ohif)]
    words += ["--out", str(tmp_path / "pictures")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    fits = dict(line.split(": ") for line in done.stdout.splitlines() if "frame" in line)
    assert set(fits) == {f"{kind}, frame {k}" for kind in ("SEG", "SR") for k in (1, 2, 3)}
