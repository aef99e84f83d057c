"""A small cohort: same bytes for any number of workers, resumable, readable, labelled, honest."""

import csv
import hashlib
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.phantom import cohort
from tf_dicom_ce.phantom import vendors as screen
from tf_dicom_ce.phantom.difficulty import write_difficulty
from tf_dicom_ce.tags.schema import TagSchema

TINY = {
    "pretraining": {"": (90, 45)},
    "classification": {"train": (16, 6), "validation": (4, 2), "test": (6, 3)},
    "segmentation": {"train": (4, 4), "validation": (1, 1), "test": (2, 2)},
}


@pytest.fixture(scope="module", autouse=True)
def presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cohort.PRESETS, "tiny", TINY)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, presets):
    return cohort.make_cohort(tmp_path_factory.mktemp("cohort"), "tiny", seed=3, workers=1)


def rows(made, table):
    with (made / table).open(newline="") as file:
        return list(csv.DictReader(file))


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_workers_and_a_resumed_run_give_the_same_bytes(tmp_path, monkeypatch):
    few = {"pretraining": {"": (16, 8)}, "segmentation": {"test": (2, 2)}}
    monkeypatch.setitem(cohort.PRESETS, "tiny", few)
    made = cohort.make_cohort(tmp_path / "made", "tiny", seed=3, workers=1)
    other = cohort.make_cohort(tmp_path / "other", "tiny", seed=3, workers=2)
    assert hashes(other) == hashes(made)
    # As if killed: not finished, one patient not yet there.
    (other / "cohort.json").rename(other / "started.json")
    patients = sorted((other / "pretraining").iterdir())
    shutil.rmtree(patients[5])
    untouched = patients[4].stat().st_mtime_ns
    cohort.make_cohort(other, "tiny", seed=3, workers=1)
    assert patients[4].stat().st_mtime_ns == untouched
    assert hashes(other) == hashes(made)


def test_another_seed_gives_other_files(made, tmp_path, monkeypatch):
    monkeypatch.setitem(cohort.PRESETS, "tiny", {"pretraining": {"": (2, 1)}})
    other = cohort.make_cohort(tmp_path / "other", "tiny", seed=4, workers=1)
    path = "pretraining/SYN-P00001"
    assert hashes(other / path) != hashes(made / path)


def test_without_domain_shift_one_vendor_makes_all(tmp_path, monkeypatch):
    one = {"pretraining": {"": (1, 1)}, "segmentation": {"test": (1, 1)}}
    monkeypatch.setitem(cohort.PRESETS, "tiny", one)
    for domain_shift, vendors in ((True, "AB"), (False, "AA")):
        out = cohort.make_cohort(tmp_path / vendors, "tiny", 0, 1, domain_shift)
        found = [
            pydicom.dcmread(
                next(p for p in sorted((out / stage).rglob("001*")) if p.suffix != ".png")
            )
            for stage in one
        ]
        assert [f.Manufacturer[-1] for f in found] == list(vendors)


def test_a_folder_in_use_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="another cohort"):
        cohort.make_cohort(made, "tiny", seed=5)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        cohort.make_cohort(tmp_path, "tiny")


def test_what_makes_no_cohort_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "started.json").write_text("{")
    before = hashes(tmp_path)
    for out, options, message in (
        ("file", {}, "cannot be written"),
        ("file/below", {}, "cannot be written"),
        ("damaged", {}, "another cohort"),
        ("new", {"seed": -1}, "--seed -1"),
        ("new", {"workers": -3}, "--workers -3"),
    ):
        with pytest.raises(UserError, match=message):
            cohort.make_cohort(tmp_path / out, "tiny", **options)
    assert hashes(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_scenes_to_recognise_are_as_many_of_each(tmp_path, monkeypatch):
    """The class is the scene in the truth, whatever the tags say; of another vendor."""
    few = {"recognition": {"train": (13, 13), "test": (13, 13)}}
    monkeypatch.setitem(cohort.PRESETS, "tiny", few)
    out = cohort.make_cohort(tmp_path / "made", "tiny", seed=0, workers=1)
    assert cohort.tables("tiny") == ("recognition.csv",)
    table, truth = rows(out, "recognition.csv"), rows(out, "truth.csv")
    assert [r["label"] for r in table] == [r["scene"] for r in truth]
    for side in ("train", "test"):
        labels = [r["label"] for r in table if r["split"] == side]
        assert sorted(labels) == sorted(cohort.scenes.SCENES)
    assert pydicom.dcmread(out / table[0]["path"]).Manufacturer.endswith("B")


def test_counts_and_patients(made):
    truth = rows(made, "truth.csv")
    for stage, splits in TINY.items():
        for split, (images, patients) in splits.items():
            chosen = [r for r in truth if r["path"].startswith(stage) and r["split"] == split]
            assert (len(chosen), len({r["patient"] for r in chosen})) == (images, patients)
    sides = {}
    for row in truth:
        sides.setdefault(row["patient"], set()).add((row["path"].split("/")[0], row["split"]))
    assert all(len(side) == 1 for side in sides.values())


def test_our_reader_finds_the_tags_and_the_truth_explains_the_rest(made):
    schema = TagSchema.load("ultrasound")
    index = scan(made / "pretraining", schema, progress=False)
    assert not index.refusals
    assert len(index.rows) == 90
    truth = {r["path"].removeprefix("pretraining/"): r for r in rows(made, "truth.csv")}
    y = np.array([row.y for row in index.rows])
    never = {name for name, n in zip(schema.labels, y.sum(axis=0), strict=True) if n == 0}
    assert never == {"phased"}  # no such probe in the phantom's clinic
    curvilinear = schema.labels.index("curvilinear")
    for row in index.rows:
        true = truth[row.path]
        if true["probe_fault"] in ("", "untidy"):
            assert row.y[curvilinear] == (true["probe"] == "SC6-1")
        elif true["probe_fault"] != "wrong":
            assert not any(row.y[-3:])
        if true["study_fault"] in ("", "untidy"):
            assert any(row.y[:-3])
        elif true["study_fault"] != "wrong":
            assert not any(row.y[:-3])


def test_synthetic_stands_everywhere(made):
    for path in (made / "pretraining").rglob("0*"):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        assert dataset.Manufacturer.startswith("SYNTHETIC")
        assert str(dataset.PatientName).startswith("SYNTHETIC")
    blank = np.zeros(screen.VENDOR_A.size, np.uint8)
    for vendor in (screen.VENDOR_A, screen.VENDOR_B):
        picture = screen.compose(vendor, blank, np.random.default_rng(0))
        x, y = vendor.text
        assert (picture[y : y + 14, x : x + 120] > 0).sum() > 100  # the line that says SYNTHETIC


def test_masks_fit_their_images(made):
    for row in rows(made, "segmentation.csv"):
        dataset = pydicom.dcmread(made / row["path"])
        mask = np.asarray(Image.open(made / row["mask"]))
        assert mask.shape == (dataset.Rows, dataset.Columns)
        assert set(np.unique(mask)) <= {0, 1, 2}
        left, top, right, bottom = screen.VENDOR_B.region
        outside = mask.copy()
        outside[top:bottom, left:right] = 0
        assert not outside.any()
        # Liver is brighter than what is no tissue at all: mask and image lie on one another.
        picture = dataset.pixel_array if mask.ndim == dataset.pixel_array.ndim else None
        if picture is not None:
            assert picture[mask == 1].mean() > 2 * picture[mask == 0].mean()


def test_the_reader_crops_to_the_sector(made):
    left, top, right, bottom = screen.VENDOR_B.region
    for row in rows(made, "segmentation.csv"):
        frame = read_frame(made / row["path"])
        assert frame.source_shape == (screen.HEIGHT, screen.WIDTH)
        assert frame.region.slices == (slice(top, bottom), slice(left, right))
        assert frame.pixels.shape == (bottom - top, right - left)


def test_the_screen_around_the_sector_tells_no_tag(made):
    """A forest on the rest of the screen does no better than the majority of patients."""
    truth = [r for r in rows(made, "truth.csv") if r["path"].startswith("pretraining")]
    left, top, right, bottom = screen.VENDOR_A.region
    features = []
    for row in truth:
        picture = pydicom.dcmread(made / row["path"]).pixel_array
        while picture.shape[:2] != (screen.HEIGHT, screen.WIDTH):
            picture = picture[0]
        picture = (picture[..., 0] if picture.ndim == 3 else picture).copy()
        picture[top:bottom, left:right] = 0
        features.append(picture[::2, ::2].ravel())
    features = np.array(features)
    features = features[:, features.min(axis=0) < features.max(axis=0)]  # the rest tells nothing
    assert features.shape[1]  # there is something to look at
    patients = [row["patient"] for row in truth]
    for target in ([r["probe"] == "SC6-1" for r in truth], ["BIOPSY" in r["study"] for r in truth]):
        forest = RandomForestClassifier(100, random_state=0)
        predicted = cross_val_predict(
            forest, features, target, groups=patients, cv=StratifiedGroupKFold(5)
        )
        # Of 90 images of 45 patients chance gives 0.5 ± 0.07.
        assert balanced_accuracy_score(target, predicted) < 0.65


def test_the_contact_sheet_shows_every_scene(made):
    sheet = np.asarray(Image.open(made / "contact_sheet.png").convert("L"))
    scenes = {r["scene"] for r in rows(made, "truth.csv") if r["path"].startswith("pretraining")}
    tiles = sheet.reshape(-1, 256, 5, 320).swapaxes(1, 2).reshape(-1, 256 * 320)
    assert (tiles.mean(axis=1) > 5).sum() == len(scenes) + 4


def test_difficulty_table(made):
    table = write_difficulty(made)
    assert table.count("\n") == 8
    values = [float(line.split("|")[-2]) for line in table.splitlines()[2:]]
    assert all(0 <= value <= 1 for value in values)


@pytest.mark.slow
def test_dciodvfy_finds_no_error(made, program):
    tool = program("dciodvfy", "dicom3tools")
    files = sorted(p for p in made.rglob("*") if p.is_file() and p.name[:3].isdigit())
    files = [p for p in files if p.suffix in ("", ".dcm")]
    kinds = set()
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        kinds.add((header.file_meta.TransferSyntaxUID.name, "NumberOfFrames" in header))
        result = subprocess.run([tool, path], capture_output=True, text=True, errors="replace")
        assert "Error" not in result.stdout + result.stderr, path
    assert len({syntax for syntax, _ in kinds}) == 3
    assert any(cine for _, cine in kinds)
