"""The store: decoded once, noticed when anything changes, equal to reading directly."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from tf_dicom_ce.data import store
from tf_dicom_ce.data.datasets import evaluation_dataset
from tf_dicom_ce.data.preprocessing import resize
from tf_dicom_ce.dicom.refusals import Code
from tf_dicom_ce.dicom.tags import TagSchema
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.frames import choose_frames
from tf_dicom_ce.intake.index import scan

SIZE = (32, 64)
SCHEMA = TagSchema.load("ultrasound")


def images(root, frames="middle"):
    index = scan(root / "data", SCHEMA, progress=False)
    return ImageReader(index.root, SCHEMA.sop_classes), choose_frames(index.rows, frames)


def open_store(root, size=SIZE, frames="middle"):
    return store.open_store(*images(root, frames), size, root / "cache")


@pytest.fixture
def files(write, tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (40 + k, 70), dtype=np.uint8) for k in range(3)]
    for k, array in enumerate(pixels):
        write(f"data/{k}.dcm", array, PatientID=f"Patient-{k}")
    return pixels


def test_frames_are_the_resized_files(files, tmp_path):
    frames = open_store(tmp_path).read(np.array([2, 0]))
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[0], resize(files[2][..., None], SIZE))
    np.testing.assert_array_equal(frames[1], resize(files[0][..., None], SIZE))


def test_places_are_where_frames_were_in_their_sources(files, write, tmp_path):
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = 10, 59
    region.RegionLocationMinY0, region.RegionLocationMaxY1 = 5, 34
    write("data/1.dcm", files[1], SequenceOfUltrasoundRegions=[region])
    for _ in range(2):  # as built and as found
        np.testing.assert_array_equal(
            open_store(tmp_path).places,
            [[40, 70, 0, 40, 0, 70], [41, 70, 5, 35, 10, 60], [42, 70, 0, 42, 0, 70]],
        )


def test_of_two_runs_the_faster_one_gives_the_store(files, tmp_path, monkeypatch):
    build = store._build

    def slow_build(*args):
        build(*args)
        monkeypatch.setattr(store, "_build", build)
        monkeypatch.setattr(store.os, "getpid", lambda: 1)
        open_store(tmp_path)  # the other run

    monkeypatch.setattr(store, "_build", slow_build)
    np.testing.assert_array_equal(
        open_store(tmp_path).read(np.array([0]))[0], resize(files[0][..., None], SIZE)
    )
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.suffix == ""  # nothing half-built stays


def test_direct_reading_gives_the_same_pixels(files, tmp_path):
    direct = store.open_direct(*images(tmp_path), SIZE)
    rows = np.arange(3)
    np.testing.assert_array_equal(direct.read(rows), open_store(tmp_path).read(rows))


def test_frames_of_a_cine_are_rows_of_their_own(write, tmp_path):
    cine = np.random.default_rng(1).integers(0, 256, (20, 40, 60), dtype=np.uint8)
    write("data/a.dcm", cine[0], NumberOfFrames=20, PixelData=cine.tobytes())
    write("data/b.dcm", cine[5])
    opened = open_store(tmp_path, (40, 60), "all")
    np.testing.assert_array_equal(opened.images, [*cine, cine[5]])
    np.testing.assert_array_equal(open_store(tmp_path, (40, 60)).images, cine[[10, 5]])
    direct = store.open_direct(*images(tmp_path, "every:9"), (40, 60))
    np.testing.assert_array_equal(direct.read([0, 1, 2, 3])[..., 0], cine[[0, 9, 18, 5]])


def test_built_once_and_anew_when_a_file_or_the_size_changes(files, write, tmp_path):
    assert open_store(tmp_path).built
    assert not open_store(tmp_path).built
    assert open_store(tmp_path, (64, 64)).built
    write("data/1.dcm", 255 - files[1], PatientID="Patient-1")
    changed = open_store(tmp_path)
    assert changed.built
    np.testing.assert_array_equal(
        changed.read(np.array([1]))[0], resize((255 - files[1])[..., None], SIZE)
    )


def test_an_undecodable_file_costs_one_row(files, write, tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    write("data/1.dcm", files[1], syntax=JPEG2000Lossless, PixelData=encapsulate([b"junk" * 9]))
    for _ in range(2):  # as built and as found
        opened = open_store(tmp_path)
        assert {k: refusal.code for k, refusal in opened.refusals.items()} == {
            1: Code.DECODE_FAILED
        }
        np.testing.assert_array_equal(opened.read([2])[0], resize(files[2][..., None], SIZE))


def test_a_build_that_dies_leaves_no_store(files, tmp_path, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_resized", die)
        with pytest.raises(KeyboardInterrupt):
            open_store(tmp_path)
    assert not list((tmp_path / "cache").iterdir())
    assert open_store(tmp_path).built


def test_a_mapped_file_takes_no_memory_of_the_process(tmp_path):
    def own_memory():
        found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(found[1]) / 1024

    def first_pixels(rows):
        frames = store.Store(store.mapped(tmp_path / "images.npy"), None, {}, built=False)
        np.testing.assert_array_equal(frames.read(rows)[..., 0], array[rows])
        batches = evaluation_dataset(frames, array[:, 0, 0], rows, batch_size=8)
        return np.concatenate([y for _, y in batches])

    array = np.random.default_rng(0).integers(0, 256, (1000, 256, 256), np.uint8)  # 62.5 MiB
    np.save(tmp_path / "images.npy", array[:10])
    first_pixels(np.arange(10))  # what TensorFlow takes once
    np.save(tmp_path / "images.npy", array)
    before = own_memory()
    rows = np.arange(0, 1000, 50)
    np.testing.assert_array_equal(first_pixels(rows), array[rows, 0, 0])
    assert own_memory() < before + 20


def test_the_store_names_nobody(files, tmp_path):
    open_store(tmp_path)
    contents = b"".join(p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert len(contents) > 3 * 32 * 64
    for word in (b"Patient-0", b"0.dcm", str(tmp_path).encode()):
        assert word not in contents
