"""A data set's rows, split and batches against what they are made of, taken by another way."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from tf_dicom_ce.data.splits import split_rows
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.phantom import cohort

SIZE = (32, 64)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, *SIZE), np.uint8)
TAGS = RNG.integers(0, 2, (12, 3)).astype(np.float32)
PATIENTS = [f"P{k % 5}" for k in range(12)]
LABELS = {"study": ("liver", "neck"), "probe": ("linear",)}


def z_scored(images):
    """float64 [N, H, W], by NumPy."""
    images = images.astype(float)
    deviations = images.std(axis=(1, 2), keepdims=True)
    return (images - images.mean(axis=(1, 2), keepdims=True)) / deviations


@pytest.fixture
def held():
    return UltrasoundDataset.from_arrays(IMAGES, TAGS, patients=PATIENTS, labels=LABELS)


@pytest.fixture
def files(write):
    """7 files of 3 patients at the size of the network; number 3 cannot be decoded."""
    for k in range(7):
        own = {"syntax": JPEG2000Lossless, "PixelData": encapsulate([b"junk" * 9])}
        write(
            f"data/{k}",
            IMAGES[k],
            PatientID=f"Planted^{k % 3}",
            StudyDescription=["US LIVER", "?"][k % 2],
            TransducerData="SL10-2",
            **(own if k == 3 else {}),
        )


def test_rows_of_arrays(held):
    np.testing.assert_array_equal(held.y, TAGS)
    np.testing.assert_array_equal(held.known, np.ones((12, 3)))
    np.testing.assert_array_equal(held.patients, [*range(5), *range(5), 0, 1])
    assert (len(held), held.tags, held.labels) == (12, LABELS, ("liver", "neck", "linear"))
    assert held.tags_known == {"study": 1.0, "probe": 1.0}
    known = "study known of 100%, probe known of 100%"
    assert repr(held) == f"<UltrasoundDataset: 12 images of 5 patients, 32×64, {known}>"


def test_what_is_unknown_says_nothing():
    known = np.arange(36).reshape(12, 3) % 2
    data = UltrasoundDataset.from_arrays(IMAGES[..., None], np.ones((12, 3)), known)
    np.testing.assert_array_equal(data.y, known)
    np.testing.assert_array_equal(data.known, known)
    assert (data.tags, len(set(data.patients))) == ({"tags": ("0", "1", "2")}, 12)
    without = UltrasoundDataset.from_arrays(IMAGES)
    assert (without.y.shape, without.tags, without.tags_known) == ((12, 0), {}, {})


def test_batches_are_the_images_z_scored_with_their_tags(held):
    batches = list(held.batches(5))
    assert [len(x) for x, _ in batches] == [5, 5, 2]
    x = np.concatenate([x for x, _ in batches])
    assert (x.dtype, x.shape) == (np.float32, (12, *SIZE, 1))
    np.testing.assert_allclose(x[..., 0], z_scored(IMAGES), atol=1e-5)
    for name, expected in (("tags", TAGS), ("known", np.ones((12, 3)))):
        np.testing.assert_array_equal(np.concatenate([y[name] for _, y in batches]), expected)


@pytest.mark.parametrize("by", ["patient", "image"])
def test_a_split_is_that_of_split_rows(held, by):
    groups = {"patient": held.patients, "image": np.arange(12)}[by]
    expected = split_rows(np.arange(12), groups, 0.3, seed=5)
    train, validation = held.split(by, validation_fraction=0.3, seed=5)
    np.testing.assert_array_equal(train.rows, expected.train)
    np.testing.assert_array_equal(validation.rows, expected.validation)
    assert (by == "patient") == set(train.patients).isdisjoint(validation.patients)
    np.testing.assert_array_equal(validation.y, TAGS[expected.validation])
    x, y = next(iter(validation.batches(12)))
    np.testing.assert_allclose(x[..., 0], z_scored(IMAGES[expected.validation]), atol=1e-5)
    np.testing.assert_array_equal(y["tags"], TAGS[expected.validation])


def test_shuffled_batches_are_of_the_side_alone(held):
    train, _ = held.split(seed=1)
    batches = train.batches(4, shuffle=True, seed=2)
    passes = [np.concatenate([y["tags"] for _, y in batches]) for _ in range(4)]
    for tags in passes:
        np.testing.assert_array_equal(sorted(map(tuple, tags)), sorted(map(tuple, train.y)))
    assert len({tags.tobytes() for tags in passes}) > 1
    again = train.batches(4, shuffle=True, seed=2)
    for tags in passes:
        np.testing.assert_array_equal(np.concatenate([y["tags"] for _, y in again]), tags)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("form", ["image", "tags", "known"])
def test_from_tf_data(form, batch_size):
    known = (np.arange(36).reshape(12, 3) % 3 > 0).astype(np.float32)
    x, tags = IMAGES[..., None].astype(np.float32), {"tags": TAGS, "known": known}
    content = {"image": x, "tags": (x, TAGS), "known": (x, tags)}[form]
    dataset = tf.data.Dataset.from_tensor_slices(content)
    if batch_size:
        dataset = dataset.batch(batch_size)
    data = UltrasoundDataset.from_dataset(dataset, PATIENTS)
    expected = {"image": np.zeros((12, 0)), "tags": TAGS, "known": TAGS * known}[form]
    np.testing.assert_array_equal(data.y, expected)
    np.testing.assert_array_equal(data.known, known if form == "known" else expected + 1 > 0)
    np.testing.assert_allclose(next(iter(data.batches(12)))[0][..., 0], z_scored(IMAGES), atol=1e-5)
    assert len(set(data.patients)) == 5


def test_from_dicom(files, tmp_path):
    data = UltrasoundDataset.from_dicom(tmp_path / "data", image_size=SIZE)
    assert len(data) == 7
    np.testing.assert_array_equal(data.patients, [0, 1, 2, 0, 1, 2, 0])
    # "US LIVER" is liver and abdomen; "?" is not known; the probe always is.
    study = data.labels.index("liver"), data.labels.index("abdomen")
    np.testing.assert_array_equal(data.y[:, study[0]], [1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(data.known[:, study[0]], [1, 0, 1, 0, 1, 0, 1])
    assert data.tags_known == pytest.approx({"study": 4 / 7, "probe": 1.0})
    assert "Planted" not in repr(data)
    assert str(tmp_path) not in repr(data)

    train, validation = data.split()
    readable = np.array([0, 1, 2, 4, 5, 6])
    expected = split_rows(readable, data.patients[readable], 0.2, seed=0)
    np.testing.assert_array_equal(train.rows, expected.train)
    np.testing.assert_array_equal(validation.rows, expected.validation)
    x = np.concatenate([x for x, _ in data.batches(4)])
    np.testing.assert_allclose(x[..., 0], z_scored(IMAGES[readable]), atol=1e-5)
    direct = UltrasoundDataset.from_dicom(tmp_path / "data", image_size=SIZE, direct=True)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in direct.batches(6)]), x)


def test_frames_of_a_file_stay_together(write, tmp_path):
    for k in range(4):
        frames = RNG.integers(0, 256, (3, *SIZE), np.uint8)
        write(f"data/{k}", frames[0], NumberOfFrames=3, PixelData=frames.tobytes())
    data = UltrasoundDataset.from_dicom(tmp_path / "data", image_size=SIZE, frames="all")
    train, validation = data.split("image")
    assert (len(train), len(validation)) == (9, 3)
    assert len(set(validation.rows // 3)) == 1


def test_every_picture_counts_and_a_table_names_its_tags(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png", "below/c.png")):
        Image.fromarray(IMAGES[k]).save(folder / name)
    (folder / "notes.txt").write_text("a note")
    table = tmp_path / "tags.csv"
    table.write_text("path,StudyDescription,patient\nb.png,US LIVER,X\nbelow/c.png,,X\n")
    data = UltrasoundDataset.from_images(folder, table, image_size=SIZE)
    liver = data.labels.index("liver")
    np.testing.assert_array_equal(data.y[:, liver], [0, 1, 0])
    np.testing.assert_array_equal(data.known[:, liver], [0, 1, 0])
    np.testing.assert_array_equal(data.patients, [0, 1, 1])
    x = next(iter(data.batches(3)))[0]
    np.testing.assert_allclose(x[..., 0], z_scored(IMAGES[:3]), atol=1e-5)
    listed = UltrasoundDataset.from_dicom(folder, labels=table, image_size=SIZE)
    assert len(listed) == 2


def test_from_phantom(files, tmp_path, monkeypatch):
    (tmp_path / "data").rename(tmp_path / "pretraining")
    monkeypatch.setattr(cohort, "default_cohort", lambda preset: tmp_path)
    data = UltrasoundDataset.from_phantom("quick", exclude=["burned-in"])
    assert (len(data), data.source.synthetic) == (7, True)
    assert data.source.settings["image_size"] == (64, 96)
    assert data.source.settings["exclude"] == ("burned-in",)


def test_mistakes_are_named(tmp_path):
    for arguments, message in (
        ((IMAGES[0],), r"images: expected \[N, H, W\]"),
        ((IMAGES[:, :30],), "30 is not a multiple of 32"),
        ((np.where(IMAGES > 250, np.nan, IMAGES),), "images: expected finite numbers"),
        ((IMAGES, TAGS[1:]), r"tags: expected \[12, L\], not float32 \[11, 3\]"),
        ((IMAGES, TAGS + 1), "tags: expected numbers 0 to 1"),
        ((IMAGES, TAGS, TAGS[:, :2]), r"known: expected \[12, 3\]"),
        ((IMAGES, TAGS, None, [1, 2]), r"patients: expected \[12\]"),
        ((IMAGES, TAGS, None, None, "ab"), "labels: 2 names, but tags have 3 columns"),
    ):
        with pytest.raises(UserError, match=message):
            UltrasoundDataset.from_arrays(*arguments)
    for options, message in (
        ({"image_size": (30, 64)}, "30 is not a multiple of 32"),
        ({"frames": "some"}, "choose middle, all, or every:N"),
        ({"exclude": ["none"]}, "choose one of"),
        ({"tags": "none"}, "no tag schema 'none'"),
        ({}, "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            UltrasoundDataset.from_dicom(tmp_path / "nothing", **options)
    with pytest.raises(UserError, match="is infinite"):
        UltrasoundDataset.from_dataset(tf.data.Dataset.from_tensor_slices(IMAGES).repeat())
    with pytest.raises(UserError, match="contain images"):
        UltrasoundDataset.from_dataset(tf.data.Dataset.from_tensor_slices(IMAGES).take(0))
    data = UltrasoundDataset.from_arrays(IMAGES)
    with pytest.raises(UserError, match="--split study: choose one of patient, image"):
        data.split("study")
    with pytest.raises(UserError, match="--validation-fraction"):
        data.split(validation_fraction=1.0)


SCAN = """
import sys
from tf_dicom_ce import UltrasoundDataset
data = UltrasoundDataset.from_dicom(sys.argv[1], image_size=(32, 64))
print(data, data.y.shape, data.tags_known)
sys.exit(len(data) if not {"tensorflow", "keras"} & set(sys.modules) else 99)
"""


def test_a_scan_loads_no_tensorflow_and_decodes_nothing(files, tmp_path):
    command = [sys.executable, "-c", SCAN, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert not list(Path(tmp_path).rglob("images.bin"))


def test_what_is_decoded_is_this_users_alone(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    UltrasoundDataset.from_dicom(tmp_path / "data", image_size=SIZE).split()
    found = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert any(path.name == "images.bin" for path in found)
    assert {path.stat().st_mode & 0o077 for path in found} == {0}
