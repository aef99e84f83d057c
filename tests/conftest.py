import signal

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

# A shell that starts the tests in the background has them ignore it, and all their children too.
signal.signal(signal.SIGINT, signal.default_int_handler)

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


def build_dataset(pixels, syntax=ExplicitVRLittleEndian, **elements):
    """A data set around raw pixels (H, W) or (H, W, 3), or any bytes given as PixelData."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ULTRASOUND
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.PatientID = "P1"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """Secret and caches of a user who runs this for the first time."""
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(own / "cache"))


@pytest.fixture
def build():
    """The function `build_dataset`."""
    return build_dataset


@pytest.fixture
def write(tmp_path):
    """Writes a built data set below tmp_path and returns its path."""

    def write_file(name, pixels, **elements):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        build_dataset(pixels, **elements).save_as(path, enforce_file_format=True)
        return path

    return write_file


@pytest.fixture
def ramp():
    """(20, 30) uint8 with every pixel different from its neighbours."""
    return (np.arange(600, dtype=np.uint32) * 7 % 251).astype(np.uint8).reshape(20, 30)


@pytest.fixture
def colours():
    """(20, 30, 3) uint8 random colours."""
    return np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)
