import subprocess

import numpy as np
import pytest

from tf_dicom_ce.results.model import Model


@pytest.fixture
def segmenter():
    return Model(
        name="segmentation",
        version="3",
        task="segmentation",
        classes=("background", "liver", "Kidney", "cyst, simple"),
        weights_digest="5e" * 32,
        fingerprint="c0ffee",
        synthetic=True,
    )


@pytest.fixture
def classifier():
    return Model(
        name="quality",
        version="12",
        task="classification",
        classes=("poor", "good", "übrig"),
        weights_digest="c1" * 32,
        fingerprint="c0ffee",
        synthetic=False,
    )


@pytest.fixture
def cine(write, ramp):
    """Writes a cine of three frames of 20 × 30 pixels, all different; further elements by name."""

    def write_cine(name="cine", **elements):
        frames = np.stack([ramp, ramp // 2, 255 - ramp])
        elements = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", **elements}
        return write(name, ramp, NumberOfFrames=3, PixelData=frames.tobytes(), **elements)

    return write_cine


@pytest.fixture
def dciodvfy(tmp_path, program):
    """Lists the errors that dciodvfy finds in a result."""
    tool = program("dciodvfy", "dicom3tools")

    def errors(result, kind):
        path = tmp_path / "result.dcm"
        result.save_as(path, enforce_file_format=True)
        done = subprocess.run([tool, path], capture_output=True, text=True, errors="replace")
        lines = (done.stdout + done.stderr).splitlines()
        assert kind in lines  # it knew the class
        return [line for line in lines if line.startswith("Error")]

    return errors
