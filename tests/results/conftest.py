import io
import subprocess

import numpy as np
import pydicom
import pytest

from tf_dicom_ce.results.files import dicom_bytes
from tf_dicom_ce.results.finding import Finding
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


def _result(kind, source, answer, model):
    content = dicom_bytes(kind, source, Finding.of(source, answer, model), model)
    return pydicom.dcmread(io.BytesIO(content))


@pytest.fixture(scope="session")
def segmentation():
    """Makes the SEG of one frame, as it is read: segmentation(source, mask, model)."""
    return lambda source, mask, model: _result("seg", source, {"mask": mask}, model)


@pytest.fixture(scope="session")
def report():
    """Makes the SR of one frame, as it is read: report(source, class_id, probabilities, model)."""

    def make(source, class_id, probabilities, model):
        answer = {"class_id": class_id, "probabilities": probabilities}
        return _result("sr", source, answer, model)

    return make


@pytest.fixture(scope="session")
def encode():
    """Gives the content of a data set's file."""

    def content(dataset):
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    return content


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
