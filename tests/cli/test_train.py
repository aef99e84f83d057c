"""The main job from a folder of DICOM to an exported encoder, through the command line."""

import collections
import contextlib
import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tf_dicom_ce.cli import main
from tf_dicom_ce.dicom.flags import Flag

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly"),  # of tf.data
]


SMALL = "--preset quick --image-size 32 32 --width 0.03125 --epochs 2 --batch-size 4"


@pytest.fixture(scope="module")
def place(tmp_path_factory, build):
    """20 files of 5 patients in `data`, one of them cut off, and a text file. Only to be read."""
    place = tmp_path_factory.mktemp("place")
    (place / "data").mkdir()
    rng = np.random.default_rng(0)
    for k in range(20):
        ramp = np.linspace(0, 180, 40)[:, None] + 5 * (k % 5)
        build(
            (ramp + rng.integers(0, 40, (40, 60))).astype(np.uint8),
            PatientID=f"Planted^Name{k % 5}",
            StudyDescription=["US THYROID BIOPSY", "US BIOPSY LIVER FOCAL", "?"][k % 3],
            TransducerData=["SL10-2", "SC6-1"][k % 2],
        ).save_as(place / "data" / f"{k:02d}", enforce_file_format=True)
    cut = place / "data" / "07"
    cut.write_bytes(cut.read_bytes()[:-1500])
    (place / "data" / "notes.txt").write_text("a note")
    return place


def in_place(place, monkeypatch):
    """The secret of `whole`."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))


@pytest.fixture(scope="module")
def whole(place):
    """A run of two epochs without a store, whose encoder is exported, and what it printed.

    Only to be read.
    """
    folders = ["--data", place / "data", "--run", place / "whole", "--export", place / "export"]
    words = [*SMALL.split(), *map(str, folders), "--deterministic", "--augment", "--direct"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        in_place(place, patch)
        assert main(["train", *words]) == 0
    return place / "whole", out.getvalue()


@pytest.fixture
def data(place, tmp_path):
    """A copy of the files."""
    return shutil.copytree(place / "data", tmp_path / "data")


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(name, *extra):
        folder = tmp_path / name
        export = tmp_path / "export"
        arguments = ["--data", data, "--run", folder, "--export", export, *extra]
        assert main(["train", *SMALL.split(), *map(str, arguments)]) == 0
        return folder

    return run


def test_from_files_to_encoder(whole, place):
    folder, out = whole
    assert "1 other files skipped, 1 unreadable" in out
    assert "Best epoch" in out

    config = json.loads((folder / "config.json").read_text())
    assert config["images"]["training"] + config["images"]["validation"] == 19
    assert len(config["labels_fingerprint"]) == 64
    assert '\n07,,unreadable,"truncated ' in (folder / "files.csv").read_text()
    # 07 was cut off. Of 19: ? is k % 3 == 2 of k = 2, 5, 8, 11, 14, 17; all have a probe.
    known = {"study": 13 / 19, "probe": 1.0}
    assert json.loads((folder / "result.json").read_text())["tags_known"] == pytest.approx(known)
    with (folder / "split.csv").open(newline="") as file:
        split = list(csv.DictReader(file))
    assert [row["path"] for row in split] == [f"{k:02d}" for k in range(20) if k != 7]
    assert len({row["patient"] for row in split}) == 5
    assert len({(row["patient"], row["split"]) for row in split}) == 5
    counts = collections.Counter(row["split"] for row in split)
    assert counts == {"train": config["images"]["training"], "validation": counts["validation"]}

    encoder = place / "export" / "encoder" / "1"
    metadata = json.loads((encoder / "encoder.json").read_text())
    card = (encoder / "MODEL_CARD.md").read_text()
    assert "the discriminator saw them (known: study of 68 %, probe of 100 % of the images)" in card
    assert metadata["image_size"] == [32, 32]
    assert metadata["tag_vocabulary"][-3:] == ["linear", "curvilinear", "phased"]
    assert metadata["best_epoch"] == json.loads((folder / "result.json").read_text())["best_epoch"]
    scales = tf.saved_model.load(str(encoder)).signatures["serving_image"](
        image=tf.zeros((1, 50, 70, 1))
    )
    assert scales["P5"].shape == (1, 1, 1, 16)


@pytest.mark.usefixtures("eagerly")
def test_tags_that_nothing_is_known_of(train, data, tmp_path, capsys):
    """If the schema maps nothing, training stops; without tags it continues."""
    schema = tmp_path / "other.toml"
    schema.write_text(
        'name = "other"\n[[tag]]\nname = "age"\nelement = "PatientAge"\nlabels = ["old"]\n'
        'map = { "090Y" = ["old"] }\n'
    )
    words = f"train --preset quick --data {data} --tags {schema} --run {tmp_path / 'run'}"
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert "No image has a tag that the schema knows" in error
    assert "--no-use-dicom" in error
    assert not (tmp_path / "run").exists()
    folder = train("run", "--no-use-dicom", "--tags", schema, "--no-export", "--epochs", "1")
    assert json.loads((folder / "result.json").read_text())["tags_known"] == {"age": 0}


@pytest.mark.usefixtures("eagerly")
def test_frames_of_a_file_stay_on_one_side_of_a_split_by_image(train, data, write):
    rng = np.random.default_rng(3)
    for path in data.iterdir():
        path.unlink()
    for k in range(6):
        frames = rng.integers(0, 256, (4, 40, 60), dtype=np.uint8)
        own = {"PatientID": f"{k % 2 + 1}", "StudyDescription": "US LIVER"}
        write(f"data/{k}", frames[0], NumberOfFrames=4, PixelData=frames.tobytes(), **own)
    folder = train("run", "--split", "image", "--frames", "all", "--no-export", "--epochs", "1")
    with (folder / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["frame"]) for row in rows[3:5]] == [("0", "3"), ("1", "0")]
    assert len({(row["path"], row["split"]) for row in rows}) == 6
    # 24 images, a fifth is 4.8: one file of four is nearest; its patient is on the other side, too.
    assert sum(row["split"] == "validation" for row in rows) == 4


@pytest.mark.usefixtures("eagerly")
def test_data_are_known_by_their_content(train, data, tmp_path, capfd):
    """Equal names, sizes and times do not make data the same; moved data are the same."""
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for path in other.iterdir():
        content = bytearray(path.read_bytes())
        content[-1000:] = bytes(255 - byte for byte in content[-1000:])
        path.write_bytes(content)
        os.utime(path, ns=(path.stat().st_atime_ns, (data / path.name).stat().st_mtime_ns))
    always = ("--deterministic", "--no-export", "--batch-size", "16")
    names = ("data_fingerprint", "validation")
    found = {}
    for name, source in (("run1", data), ("run2", other)):
        folder = train(name, "--data", source, *always, "--epochs", "1")
        config, result = (
            json.loads((folder / f"{n}.json").read_text()) for n in ("config", "result")
        )
        found[name] = [{**config, **result}[key] for key in names]
    assert found["run1"][0] != found["run2"][0]
    assert found["run1"][1] != found["run2"][1]

    moved = data.rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "cache")
    capfd.readouterr()
    folder = train("run1", "--data", moved, *always, "--resume", "--epochs", "2")
    assert "images decoded; the others were there already." in capfd.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    assert (config["data_fingerprint"], config["epochs"]) == (found["run1"][0], 2)
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + 2
    # The other folder in its place is another one.
    other.rename(data)
    words = (
        f"train --data {data} --run {folder} --resume --preset quick --image-size 32 32 --epochs 4"
    )
    assert main([*words.split(), "--width", "0.03125", *always]) == 2
    assert "has data_fingerprint" in capfd.readouterr().err


def left_by(folder):
    """Arrays of the newest checkpoint, history and result."""
    with np.load(max((folder / "checkpoints").iterdir())) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, (folder / "history.csv").read_text(), (folder / "result.json").read_text()


def assert_equal(left, other):
    assert left[0].keys() == other[0].keys()
    for name, array in left[0].items():
        np.testing.assert_array_equal(other[0][name], array, err_msg=name)
    assert left[1:] == other[1:]


def test_runs_are_equal_bit_for_bit(whole, place, train, tmp_path, capfd, monkeypatch):
    """One epoch that builds the store and one that uses it equal two without a store.

    Augmentation draws random numbers, too.
    """
    in_place(place, monkeypatch)
    assert "Store:" not in whole[1]
    always = ("--data", place / "data", "--deterministic", "--augment")
    longer = train("longer", *always, "--epochs", 1, "--no-export")
    assert json.loads((longer / "result.json").read_text())["epochs"] == 1
    assert "images decoded; the others were there already." in capfd.readouterr().out
    train("longer", *always, "--resume")
    out, err = capfd.readouterr()
    assert "Store: 0 images decoded; the others were there already." in out
    assert "epoch 2/2" in err
    assert "epoch 1/2" not in err
    assert_equal(left_by(whole[0]), left_by(longer))
    assert (whole[0] / "files.csv").read_text() == (longer / "files.csv").read_text()
    assert json.loads((longer / "result.json").read_text())["epochs"] == 2
    assert json.loads((longer / "config.json").read_text())["epochs"] == 2
    (file,) = tmp_path.glob("export/encoder/*/*.json")
    assert json.loads(file.read_text())["epochs"] == 2

    train("longer", *always, "--resume")
    assert "is finished" in capfd.readouterr().out
    for words, message in (
        (["--epochs", 1], "--epochs 1: the run in"),
        (["--seed", 4], "has seed 0, this command has 4"),
    ):
        with pytest.raises(AssertionError):
            train("longer", *always, "--resume", *words)
        assert message in capfd.readouterr().err
    assert left_by(longer)[1:] == left_by(whole[0])[1:]


@pytest.mark.usefixtures("eagerly")
def test_without_tags(train, tmp_path):
    """And with the models below the run's folder, which has to be empty at the start."""
    words = "--no-use-dicom --split image --adversarial minimax --epochs 1"
    folder = train("run", *words.split(), "--export", tmp_path / "run" / "export")
    encoder = json.loads((folder / "export" / "encoder" / "1" / "encoder.json").read_text())
    assert (encoder["use_dicom"], encoder["adversarial"]) == (False, "minimax")
    assert (
        "not used in the pretraining"
        in (folder / "export" / "encoder" / "1" / "MODEL_CARD.md").read_text()
    )
    history = (folder / "history.csv").read_text().splitlines()
    values = dict(zip(history[0].split(","), history[-1].split(","), strict=True))
    assert float(values["val_p"]) == 0
    assert float(values["val_c_rf"]) > 0


@pytest.mark.usefixtures("eagerly")
def test_flags_reach_the_report_and_exclude_images(train, data, write, tmp_path, capsys):
    """Flags from headers, and flags from decoding."""
    pixels = np.random.default_rng(0).integers(0, 200, (40, 60), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    jpeg = {"syntax": JPEGBaseline8Bit, "PixelData": encapsulate([stream.getvalue()[:-2]])}
    write("data/jpeg", pixels, PatientID="A", **jpeg)
    for name in ("named", "named too"):
        write(f"data/{name}", pixels[::-1], PatientID="B", BurnedInAnnotation="YES")
    m_mode = Dataset()
    m_mode.RegionSpatialFormat, m_mode.RegionDataType = 2, 1
    write("data/m-mode", pixels, SequenceOfUltrasoundRegions=[m_mode])

    def files(folder):
        with (folder / "files.csv").open(newline="") as file:
            return {row["path"]: row for row in csv.DictReader(file)}

    always = ("--epochs", "1", "--batch-size", "16", "--no-export")
    rows = files(train("all", *always))
    assert rows["jpeg"]["flags"] == f"{Flag.LOSSY}|{Flag.NO_END_MARKER}"
    assert rows["named"]["flags"] == Flag.BURNED_IN
    assert rows["m-mode"]["what"].startswith("not-2d ")
    assert f"1 files: {Flag.NO_END_MARKER}\n" in capsys.readouterr().out
    config = json.loads((tmp_path / "all" / "config.json").read_text())
    assert (config["exclude"], sum(config["images"].values())) == ([], 22)

    names = ("--exclude", "burned-in", "--exclude", "no-end-marker")
    for k, more in enumerate(((), ("--direct",))):
        rows = files(train(f"some-{k}", *names, *more, *always))
        for name in ("named", "named too", "jpeg"):
            assert (rows[name]["status"], rows[name]["what"]) == ("skipped", "excluded")
        config = json.loads((tmp_path / f"some-{k}" / "config.json").read_text())
        assert config["exclude"] == ["burned-in", "no-end-marker"]
        assert sum(config["images"].values()) == 19


@pytest.mark.usefixtures("eagerly")
def test_mostly_unreadable_stops_unless_allowed(train, data, tmp_path, capsys):
    for path in sorted(data.glob("1*")):
        path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(AssertionError):
        train("run")
    message = capsys.readouterr().err
    assert "11 of 20 images cannot be read" in message
    assert "--allow-unreadable" in message
    train("allowed", "--allow-unreadable", "--split", "image", "--no-export", "--epochs", "1")
    assert "Encoder:" not in capsys.readouterr().out
    assert not (tmp_path / "export" / "encoder").exists()
