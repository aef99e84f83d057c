"""OHIF shows masks and reports where they belong, frame by frame: looked at by pixels."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.viewer
ROOT = Path(__file__).parents[2]
PACKAGE = "@ohif/app@3.13.2"
SHA512 = (
    "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3dee"
    "a3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10"
)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture
def ohif(tmp_path):
    """OHIF's files: of the folder that TF_DICOM_CE_OHIF names, or else by npm."""
    if folder := os.environ.get("TF_DICOM_CE_OHIF"):
        return Path(folder)
    npm = shutil.which("npm") or pytest.skip("needs npm, which brings OHIF; or TF_DICOM_CE_OHIF")
    words = [npm, "pack", PACKAGE, "--fetch-retries=0", "--fetch-timeout=60000"]
    if subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=120).returncode:
        pytest.skip(f"needs {PACKAGE}, which npm cannot fetch; or TF_DICOM_CE_OHIF")
    (packed,) = tmp_path.glob("*.tgz")
    assert hashlib.sha512(packed.read_bytes()).hexdigest() == SHA512
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "package" / "dist"


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
