"""`predict` from a source to its results, killed and resumed; the mistakes it names."""

import contextlib
import csv
import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tf_dicom_ce.cli import main
from tf_dicom_ce.prediction.folder import OUTPUTS

SIZE = (32, 64)
CINE = "1.2.840.10008.5.1.4.1.1.3.1"

# Slowed down, so that there is a midway.
SLOW = """
import sys, time
from tf_dicom_ce.cli import main
from tf_dicom_ce.prediction import batch
def slowly(*arguments, map=batch.guarded_map, **options):
    for result in map(*arguments, **options):
        time.sleep(0.05)
        yield result
batch.guarded_map = slowly
sys.exit(main(sys.argv[1:]))
"""


def picture(seed):
    return (np.random.default_rng(seed).random(SIZE) < 0.4).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def source(build, tmp_path_factory):
    """A cine of 30 frames, 10 images of 5 studies, a PNG, and a file that was cut off.

    Only to be read.
    """
    folder = tmp_path_factory.mktemp("source") / "Planted_folder"
    folder.mkdir()

    def write(name, pixels, **elements):
        build(pixels, **elements).save_as(folder / name, enforce_file_format=True)

    frames = [picture(k) for k in range(30)]
    stacked = np.stack(frames).tobytes()
    write("cine.dcm", frames[0], SOPClassUID=CINE, NumberOfFrames=30, PixelData=stacked)
    for k in range(10):
        study = {"PatientID": "Planted", "StudyInstanceUID": f"1.2.{k % 5 + 1}"}
        write(f"{k}.dcm", picture(100 + k), **study)
    write("cut.dcm", picture(0))
    cut = folder / "cut.dcm"
    cut.write_bytes(cut.read_bytes()[:-300])
    Image.fromarray(picture(200)).save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def words(heads, source):
    def of(out, task="segmentation"):
        model = str(heads / task)
        return ["predict", str(source), "--model", model, "--out", str(out), "--frames", "all"]

    return of


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory):
    """The folder of an uninterrupted run, and what it printed. Only to be read."""
    folder = tmp_path_factory.mktemp("alone")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(words(folder / "out")) == 0
    return folder / "out", out.getvalue(), err.getvalue()


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def results(out):
    """What is in a folder of results."""
    return (
        *({p.name: p.read_bytes() for p in (out / k).iterdir()} for k in OUTPUTS),
        table(out / "predictions.csv"),
        table(out / "skipped.csv"),
    )


def test_a_folder(alone, source):
    out, printed, progress = alone
    assert "segmentation 1: 41 images, 41 answered now\n" in printed
    assert "PNG or JPEG: 1, without" in printed
    assert f"Without an answer: 1 truncated; see {out / 'skipped.csv'}" in printed
    assert "trained on synthetic images only" in printed
    *files, rows, skipped = results(out)
    assert [len(found) for found in files] == [11, 11, 5, 41]
    assert len(rows) == 41
    assert [row["path"] for row in skipped] == ["cut.dcm"]
    # Names and paths of patients stand in results, files.csv and skipped.csv alone.
    for path in out.rglob("*"):
        name = path.relative_to(out)
        assert "Planted" not in str(name)
        if path.is_file() and name.parts[0] not in (
            "seg",
            "sr",
            "report",
            "files.csv",
            "skipped.csv",
        ):
            assert b"Planted" not in path.read_bytes()
    assert "Planted" not in (printed + progress).replace(str(source), "")


def test_an_archive(words, source, tmp_path, capsys):
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", source)
    arguments = words(tmp_path / "out", "classification")
    arguments[1] = archive
    assert main([*arguments, "--frames", "middle"]) == 0
    assert "classification 1: 12 images, 12 answered now" in capsys.readouterr().out
    rows = table(tmp_path / "out" / "predictions.csv")
    assert {row["class"] for row in rows} <= {"left", "right"}
    assert len(list((tmp_path / "out" / "sr").iterdir())) == 11


@pytest.mark.slow
def test_killed_at_some_point_and_resumed(semaphores, words, alone, tmp_path, capsys, monkeypatch):
    """The result is that of an uninterrupted run; meanwhile all files are complete."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(alone[0].parent / "config"))  # the same secret
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SLOW, *words(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while lines(out / "predictions.csv") <= 3:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    there = table(out / "predictions.csv")
    assert 3 <= len(there) < 41
    for row in there:
        # The PNG has no DICOM result.
        named = [row[name] for name in ("seg", "sr", "overlay") if row[name]]
        assert named
        assert all((out / name).is_file() for name in named)
    for path in (out / "seg").glob("[!.]*"):
        dcmread(path).pixel_array  # noqa: B018
    for path in (out / "overlay").glob("[!.]*"):
        with Image.open(path) as image:
            image.load()
    capsys.readouterr()
    assert main(words(out)) == 0
    assert f"{41 - len(there)} answered now, {len(there)} before" in capsys.readouterr().out
    assert results(out) == results(alone[0])
    assert not list(out.rglob("*.part*"))


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_mistakes(words, source, tmp_path, capsys):
    def message(*extra, out=tmp_path / "out"):
        assert main([*words(out), *map(str, extra)]) == 2
        return capsys.readouterr().err

    assert "no exported head here" in message("--model", tmp_path / "none")
    assert "choose middle, all, or every:N" in message("--frames", "first")
    assert "would travel unencrypted" in message("--stow", "http://pacs.example/dicom-web")
    assert "no web address" in message("--stow", "pacs.example")
    assert "lies in" in message(out=source / "out")
    assert not (tmp_path / "out").exists()
    assert not (source / "out").exists()


def test_a_source_of_which_nothing_can_be_read(heads, tmp_path, capsys):
    folder = tmp_path / "src"
    folder.mkdir()
    Image.fromarray(picture(0)).save(folder / "a.png")
    path = folder / "a.png"
    path.write_bytes(path.read_bytes()[:80])
    arguments = ["predict", str(folder), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--model", str(heads / "segmentation")]) == 2
    assert "none of the images could be read" in capsys.readouterr().err
    assert [row["code"] for row in table(tmp_path / "out" / "skipped.csv")] == ["decode-failed"]


def test_captured_screens_are_answered_if_asked_for(heads, write, tmp_path, capfd):
    write("in/screen", picture(1), SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="US")
    write("in/image", picture(2), Modality="US")
    words = ["predict", str(tmp_path / "in"), "--model", str(heads / "segmentation"), "--out"]
    for out, more, number in (("a", [], 1), ("b", ["--include", "secondary-capture"], 2)):
        assert main([*words, str(tmp_path / out), *more]) == 0
        assert f"{number} images, {number} answered now" in capfd.readouterr().out
        assert len(list((tmp_path / out / "seg").iterdir())) == number
    for path in (tmp_path / "b" / "seg").iterdir():
        truth = {picture(k).tobytes() for k in (1, 2)}
        assert (dcmread(path).pixel_array.reshape(SIZE) * np.uint8(255)).tobytes() in truth
