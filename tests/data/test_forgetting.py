"""After a source is forgotten, no byte of it is left."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tf_dicom_ce.cli import main
from tf_dicom_ce.data import store
from tf_dicom_ce.data.forgetting import Forgotten, forget
from tf_dicom_ce.data.ultrasound import UltrasoundDataset

SIZE = (32, 64)
TRAINING = """
import sys
from tests.data.test_forgetting import use
use(sys.argv[1])
input("ready")
"""


@pytest.fixture
def folders(write, tmp_path):
    """Folders "one", of a cine and a still, and "two", of a still; the pixels of each by folder."""
    rng, pixels = np.random.default_rng(3), {}
    for folder in ("one", "two"):
        still = rng.integers(0, 256, SIZE, np.uint8)
        write(f"{folder}/still-{folder}", still, StudyDescription=f"US LIVER {folder}")
        pixels[folder] = [still]
    cine = rng.integers(0, 256, (3, *SIZE), np.uint8)
    write(
        "one/cine-one",
        cine[0],
        SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1",
        NumberOfFrames=3,
        PixelData=cine.tobytes(),
        StudyDescription="US LIVER one",
    )
    pixels["one"] += list(cine)
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        for path in (tmp_path / "one").iterdir():
            archive.write(path, f"packed/{path.name}")
    return pixels


@pytest.fixture
def ended(monkeypatch):
    """Processes that used a store have ended, which this one has not."""
    monkeypatch.setattr(store, "use", lambda folder: None)


def use(*sources):
    """Reads and decodes all of some sources; returns the frames of the last one."""
    for source in sources:
        found = UltrasoundDataset.from_dicom(str(source), image_size=SIZE, frames="all")
        frames = found.source.frames
    return frames


def cached():
    """All bytes and names in the cache."""
    root = Path(os.environ["XDG_CACHE_HOME"]) / "tf-dicom-ce"
    paths = list(root.rglob("*"))
    names = b"".join(os.fsencode(path.relative_to(root)) for path in paths)
    return names + b"".join(path.read_bytes() for path in paths if path.is_file())


def traces(pixels, name):
    """What would give a source away."""
    rows = [frame[5].tobytes() for frame in pixels[name]]
    return [*rows, f"US LIVER {name}".encode(), f"still-{name}".encode()]


@pytest.mark.parametrize("source", ["one", "one.zip"])
@pytest.mark.usefixtures("ended")
def test_no_byte_is_left(folders, tmp_path, source, capfd):
    use(tmp_path / source, tmp_path / "two")
    kept = cached()
    assert all(trace in kept for name in folders for trace in traces(folders, name))
    if source == "one.zip":
        (tmp_path / source).unlink()
    assert main(["forget", str(tmp_path / source)]) == 0
    copies = int(source == "one.zip")
    said = f"headers of 2 files, 4 decoded images, {copies} folders of copies"
    assert said in capfd.readouterr().out
    kept = cached()
    assert not any(trace in kept for trace in traces(folders, "one"))
    assert source.encode() not in kept
    assert all(trace in kept for trace in traces(folders, "two"))
    assert main(["forget", str(tmp_path / source)]) == 0
    assert "Nothing is kept of" in capfd.readouterr().out


@pytest.mark.usefixtures("ended")
def test_what_a_file_was_before_is_forgotten_too(folders, write, tmp_path):
    use(tmp_path / "two")
    write("two/still-two", np.full(SIZE, 7, np.uint8), StudyDescription="US LIVER now")
    use(tmp_path / "two")
    assert forget(str(tmp_path / "two")) == Forgotten(1, 2, 0)
    kept = cached()
    assert not any(trace in kept for trace in traces(folders, "two"))
    assert b"US LIVER now" not in kept


@pytest.mark.usefixtures("ended")
def test_a_frame_of_two_sources_is_decoded_anew_for_the_other(folders, tmp_path):
    assert use(tmp_path / "one", tmp_path / "one.zip").decoded == 0
    assert forget(str(tmp_path / "one")) == Forgotten(2, 4, 0)
    frames = use(tmp_path / "one.zip")
    assert frames.decoded == 4
    still, *cine = folders["one"]
    np.testing.assert_array_equal(frames.read(np.arange(4))[..., 0], [*cine, still])
    assert forget(str(tmp_path / "one.zip")) == Forgotten(2, 4, 1)


def test_a_store_that_is_in_use(folders, tmp_path, capfd):
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "one")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=Path(__file__).parents[2]) as training:
        assert training.stdout.read(5) == b"ready"
        assert main(["forget", str(tmp_path / "one")]) == 2
        assert "a training or a prediction works with it" in capfd.readouterr().err
        training.communicate(b"\n")
    assert forget(str(tmp_path / "one")) == Forgotten(2, 4, 0)


def test_a_store_of_an_earlier_version_goes(folders, tmp_path):
    old = Path(os.environ["XDG_CACHE_HOME"]) / "tf-dicom-ce/store/old"
    old.mkdir(parents=True)
    (old / "images.npy").write_bytes(b"pixels")
    forget(str(tmp_path / "one"))
    assert not old.exists()
