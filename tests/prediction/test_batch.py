"""One pass over a folder: results checked against NumPy, refusals, memory, going on."""

import csv
import dataclasses
import functools
import io
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from tf_dicom_ce import __version__
from tf_dicom_ce.cli import main
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import decoding
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.file_cache import stamp_of
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.prediction import batch, folder, writing
from tf_dicom_ce.prediction.batch import Head, predict
from tf_dicom_ce.prediction.folder import open_results
from tf_dicom_ce.prediction.writing import (
    Answered,
    File,
    FileWriter,
    ImageWriter,
    SourceReader,
    StudyWriter,
)
from tf_dicom_ce.results.files import dicom_bytes
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.measuring import measure
from tf_dicom_ce.results.source import open_image
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.tag_table import Entry
from tf_dicom_ce.workers import Outage, guarded_map

SIZE = (32, 64)
ULTRASOUND_CINE = "1.2.840.10008.5.1.4.1.1.3.1"
NAME = "Secret^Name"
READER = ImageReader(Path(), frozenset())


def picture(seed):
    """Black and white pixels of the heads' own size: nothing is resized."""
    return (np.random.default_rng(seed).random(SIZE) < 0.4).astype(np.uint8) * 255


def cine(frames):
    return {
        "SOPClassUID": ULTRASOUND_CINE,
        "NumberOfFrames": len(frames),
        "PixelData": np.stack(frames).tobytes(),
    }


@pytest.fixture(scope="module")
def load(heads):
    """Loads a head once."""
    return functools.cache(lambda task: Head(heads / task))


def in_this_process(function, items, *_, **__):
    """`guarded_map`, which has tests of its own; tests/cli/test_predict.py starts processes."""
    for item in items:
        with quiet():
            found = function(item)
        yield found


@pytest.fixture
def run(load, tmp_path, monkeypatch):
    """Predicts on tmp_path/src and returns the pass, and the rows by path and frame."""
    monkeypatch.setattr(batch, "guarded_map", in_this_process)
    monkeypatch.setattr(decoding, "guarded_map", in_this_process)

    def predict_source(task="segmentation", choice="all", pictures=(), **options):
        out = tmp_path / "out"
        head = load(task)
        table = {name: Entry("", {}, None) for name in pictures}
        index = scan(tmp_path / "src", TagSchema.load("ultrasound"), table, progress=False)
        reader = ImageReader(index.root, index.schema.sop_classes, **options)
        with open_results(out, head.model, reader, choice):
            done = predict(index, head, out, choice, reader)
        paths = {row["file"]: row["path"] for row in table_of(out / "files.csv")}
        rows = table_of(out / "predictions.csv")
        return done, {(paths[row["file"]], int(row["frame"])): row for row in rows}

    return predict_source


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_masks_land_where_the_pixels_are(run, write, tmp_path):
    frames = [picture(k) for k in range(11)]
    write("src/a/cine.dcm", frames[0], **cine(frames), PatientName=NAME)
    write("src/single.dcm", picture(20), PatientName=NAME)
    done, rows = run()
    assert (done.images, done.new, done.before, done.pictures) == (12, 12, 0, 0)
    assert not done.skipped
    truth = {("a/cine.dcm", k): frame for k, frame in enumerate(frames)}
    truth["single.dcm", 0] = picture(20)
    assert set(rows) == set(truth)
    cine_rows = [row for (path, _), row in rows.items() if path == "a/cine.dcm"]
    assert len({row["seg"] for row in cine_rows}) == len({row["sr"] for row in cine_rows}) == 1
    assert len(done.dicom) == 4
    for (path, frame), row in rows.items():
        bright = truth[path, frame] > 0
        result = dcmread(tmp_path / "out" / row["seg"])
        masks = result.pixel_array.reshape(-1, *SIZE)
        assert len(masks) == (11 if "cine" in path else 1)
        np.testing.assert_array_equal(masks[frame], bright)
        assert float(row["share liver"]) == pytest.approx(bright.mean(), abs=1e-6)
        assert float(row["share background"]) == pytest.approx(1 - bright.mean(), abs=1e-6)
        assert row["area_cm2 liver"] == row["longest_mm liver"] == ""  # not calibrated
        assert (row["model"], row["version"]) == ("segmentation", "1")
        with Image.open(tmp_path / "out" / row["overlay"]) as overlay:
            assert overlay.width == SIZE[1]
        assert str(result.PatientName) == NAME
        (source,) = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        original = dcmread(tmp_path / "src" / path)
        assert source.ReferencedSOPInstanceUID == original.SOPInstanceUID
        names = row["seg"] + row["sr"] + row["overlay"]
        assert NAME not in names and path not in names
    uids = [dcmread(tmp_path / "out" / file).SOPInstanceUID for file in done.dicom]
    assert len(set(uids)) == 4


def test_middle_and_every(run, write, tmp_path):
    frames = [picture(k) for k in range(7)]
    write("src/cine.dcm", frames[0], **cine(frames))
    _, rows = run(choice="middle")
    assert [frame for _, frame in rows] == [3]
    with pytest.raises(UserError, match="with frames middle, but now every:3"):
        run(choice="every:3")
    shutil.rmtree(tmp_path / "out")
    done, rows = run(choice="every:3")
    assert [frame for _, frame in rows] == [0, 3, 6]
    assert (done.images, done.before, done.new) == (3, 0, 3)
    (source,) = dcmread(tmp_path / "out" / done.dicom[0]).SourceImageSequence
    assert source.ReferencedFrameNumber == [1, 4, 7]


def test_a_cropped_image(run, build, tmp_path):
    """The region is the right lower part; results are of the whole image's size."""
    pixels = np.zeros((80, 120), np.uint8)
    pixels[40:72, 50:114] = picture(1)
    dataset = build(pixels)
    region = type(dataset)()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 50, 40
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 113, 71
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
    region.RegionFlags = 0
    dataset.SequenceOfUltrasoundRegions = [region]
    (tmp_path / "src").mkdir()
    dataset.save_as(tmp_path / "src" / "a.dcm", enforce_file_format=True)
    done, rows = run()
    result = dcmread(tmp_path / "out" / done.dicom[0]).pixel_array.reshape(80, 120)
    np.testing.assert_array_equal(result, pixels > 0)
    # Shares are of the region.
    assert float(rows["a.dcm", 0]["share liver"]) == pytest.approx(
        (picture(1) > 0).mean(), abs=1e-6
    )


def test_reports_of_a_classifier(run, write, tmp_path):
    image = np.zeros(SIZE, np.uint8)
    image[:, 32:] = 100
    write("src/right.dcm", image)
    write("src/left.dcm", image[:, ::-1])
    done, rows = run(task="classification")
    expected = 1 / (1 + np.exp(-2.0))
    assert {path: row["class"] for (path, _), row in rows.items()} == {
        "right.dcm": "right",
        "left.dcm": "left",
    }
    row = rows["right.dcm", 0]
    assert float(row["probability right"]) == pytest.approx(expected, abs=1e-6)
    assert row["overlay"] == row["seg"] == ""
    report = dcmread(tmp_path / "out" / row["sr"])
    assert report.Modality == "SR"
    assert not list((tmp_path / "out" / "overlay").iterdir())
    assert len(done.dicom) == 2


def test_pictures_get_overlay_and_row_only(run, write, tmp_path):
    write("src/a.dcm", picture(1))
    Image.fromarray(picture(2)).save(tmp_path / "src" / "b.png")
    done, rows = run(pictures=["b.png"])
    assert (done.images, done.pictures) == (2, 1)
    row = rows["b.png", 0]
    assert row["seg"] == row["sr"] == ""
    assert float(row["share liver"]) == pytest.approx((picture(2) > 0).mean(), abs=1e-6)
    assert (tmp_path / "out" / row["overlay"]).is_file()
    assert run(pictures=["b.png"])[0].new == 0


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_made_up_uids_are_named_and_counted(run, write, tmp_path):
    good = {"SeriesInstanceUID": "1.2.4"}
    write("src/good.dcm", picture(1), **good)
    write("src/none.dcm", picture(2), StudyInstanceUID=None)
    write("src/illegal.dcm", picture(3), StudyInstanceUID="999.1", **good)
    Image.fromarray(picture(4)).save(tmp_path / "src" / "a.png")
    done, rows = run(pictures=["a.png"])
    assert {path: row["made_up_uids"] for (path, _), row in rows.items()} == {
        "good.dcm": "",
        "none.dcm": "SeriesInstanceUID StudyInstanceUID",
        "illegal.dcm": "StudyInstanceUID",
        "a.png": "",
    }
    assert (done.new, done.made_up) == (4, 2)
    assert run(pictures=["a.png"])[0].made_up == 0  # of what is new


def test_what_cannot_be_read_is_named_and_counted(run, write, tmp_path):
    write("src/good.dcm", picture(1))
    cut = write("src/cut.dcm", picture(2))
    cut.write_bytes(cut.read_bytes()[:-100])
    (tmp_path / "src" / "notes.txt").write_text("hello")
    stream = io.BytesIO()
    Image.fromarray(picture(3)).save(stream, "JPEG")
    broken = stream.getvalue()[:200] + bytes(400)
    jpeg = "1.2.840.10008.1.2.4.50"
    write("src/jpeg.dcm", picture(3), syntax=jpeg, PixelData=encapsulate([broken]))
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 3, 3
    write("src/doppler.dcm", picture(4), SequenceOfUltrasoundRegions=[item])
    done, rows = run()
    assert list(rows) == [("good.dcm", 0)]
    assert (done.images, done.new) == (2, 1)
    assert done.skipped == {"truncated": 1, "not-dicom": 1, "decode-failed": 1, "not-2d": 1}
    skipped = {row["path"]: row for row in table_of(tmp_path / "out" / "skipped.csv")}
    assert {path: row["code"] for path, row in skipped.items()} == {
        "cut.dcm": "truncated",
        "notes.txt": "not-dicom",
        "jpeg.dcm": "decode-failed",
        "doppler.dcm": "not-2d",
    }
    assert skipped["cut.dcm"]["kind"] == "unreadable"
    assert skipped["notes.txt"]["kind"] == "skipped"
    assert skipped["jpeg.dcm"]["frame"] == "0"
    assert all(row["remedy"] for row in skipped.values())


def test_what_decoding_alone_tells_is_left_out_too(run, write, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(picture(3)).save(stream, "JPEG")
    data = encapsulate([stream.getvalue()[:-2]])
    write("src/jpeg.dcm", picture(3), syntax="1.2.840.10008.1.2.4.50", PixelData=data)
    write("src/good.dcm", picture(1))
    done, rows = run(exclude=frozenset({Flag.NO_END_MARKER}))
    assert list(rows) == [("good.dcm", 0)]
    assert done.skipped == {"excluded": 1}
    with pytest.raises(UserError, match=r"exclude \['no-end-marker'\], but now \[\]\."):
        run()


def test_outlines_are_drawn_on_blackened_pixels(run, write, tmp_path):
    """Text beside the ultrasound is in none of the results."""
    rng = np.random.default_rng(0)
    screen = np.zeros((120, 160), np.uint8)
    screen[40:110, 30:130] = rng.integers(60, 200, (70, 100))
    screen[5:20:3, 10:90:2] = 255  # as thin as letters
    write("src/a.dcm", screen)
    _, rows = run(blank_outside=True)
    with Image.open(tmp_path / "out" / rows["a.dcm", 0]["overlay"]) as image:
        shown = np.asarray(image.convert("L"))
    assert shown.shape[1] == screen.shape[1]  # a legend stands below
    assert not shown[:30].any()
    assert shown[50:100, 40:120].any()


@pytest.mark.parametrize("stage", [ImageWriter, FileWriter, StudyWriter])
def test_a_worker_that_dies_costs_one_study(run, write, monkeypatch, stage):
    """`guarded_map` says here at once what it says of a dead worker."""

    def map_of_the_dead(function, items, lost, **_):
        for item in items:
            first = item[0] if isinstance(item, list) else item
            dies = isinstance(function, stage) and first.path == "2.dcm"
            yield lost(Outage.DIED) if dies else function(item)

    for k in range(6):
        write(f"src/{k}.dcm", picture(k))
    with monkeypatch.context() as patch:
        patch.setattr(batch, "guarded_map", map_of_the_dead)
        done, rows = run()
    assert [path for path, _ in rows] == [f"{k}.dcm" for k in (0, 1, 3, 4, 5)]
    assert done.skipped == {"reader-died": 1}
    done, rows = run()
    assert (done.before, done.new, len(rows)) == (5, 1, 6)
    assert not done.skipped


@pytest.fixture
def answered(load, write, tmp_path):
    """Files of one study that are answered in tmp_path, by name."""
    model = load("segmentation").model
    reader = SourceReader(tmp_path / "src", TagSchema.load("ultrasound").sop_classes)
    for place in folder.OUTPUTS:
        (tmp_path / place).mkdir()

    def files(*names):
        for k, name in enumerate(names):
            write(f"src/{name}.dcm", picture(k), StudyInstanceUID="1.2.3", InstanceNumber=k + 1)
            (source,) = reader.read(f"{name}.dcm", [0])
            one = Answered(f"{name}.dcm", name, source, {"mask": picture(k) // 255})
            finding = ImageWriter(tmp_path, model)(one)
            stamp = stamp_of((tmp_path / "src" / f"{name}.dcm").stat())
            yield File(f"{name}.dcm", name, stamp, (source.without_pixels(), [finding]))

    return model, files


def test_a_header_that_no_result_can_be_made_of(answered, tmp_path, monkeypatch):
    model, files = answered
    (file,) = files("n")
    assert (tmp_path / "overlay" / "n-0.png").is_file()

    def fail(*_):
        raise RecursionError(NAME)

    refusal = Refusal(Code.DAMAGED_HEADER, "RecursionError")
    monkeypatch.setattr(writing, "write_dicom", fail)
    assert FileWriter(tmp_path, model, tmp_path / "src")(file) == refusal
    (tmp_path / "src" / "n.dcm").unlink()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    reader = SourceReader(tmp_path / "src", TagSchema.load("ultrasound").sop_classes)
    assert reader.read("n.dcm", [0]) == [Refusal(Code.OS_ERROR, "FileNotFoundError")]


def test_a_report_is_of_one_patient(answered, tmp_path):
    """Though the study has a picture of another."""
    model, files = answered
    write_file = FileWriter(tmp_path, model, tmp_path / "src")
    study = [write_file(file) for file in files("a", "b", "c", "d")]
    for file in study[1::2]:
        file.examined[0].header["PatientID"] = "P2"
    first, other, third, last = StudyWriter(tmp_path, model, {})(study).rows
    assert first["report"] == third["report"] != other["report"] == last["report"]
    ids = [dcmread(tmp_path / row["report"]).PatientID for row in (first, other)]
    assert ids == ["P1", "P2"]


def test_a_study_has_a_report(run, write, tmp_path):
    """Of images that lie in two folders, between those of another study."""
    for k, (place, study) in enumerate([("a", 3), ("b", 4), ("c", 3), ("d", 4), ("e", 3)]):
        write(f"src/{place}/{k}.dcm", picture(k), StudyInstanceUID=f"1.2.{study}")
    done, rows = run()
    reports = {path: row["report"] for (path, _), row in rows.items()}
    assert reports["a/0.dcm"] == reports["c/2.dcm"] == reports["e/4.dcm"]
    assert reports["b/1.dcm"] == reports["d/3.dcm"] != reports["a/0.dcm"]
    assert len(done.dicom) == 5 + 5 + 2
    for name, study, number in (("a/0.dcm", "1.2.3", 3), ("b/1.dcm", "1.2.4", 2)):
        report = dcmread(tmp_path / "out" / reports[name])
        assert report.StudyInstanceUID == study
        named = [e.value for e in report.iterall() if e.keyword == "ReferencedSOPInstanceUID"]
        segs = {dcmread(tmp_path / "out" / row["seg"]).SOPInstanceUID for row in rows.values()}
        assert len(set(named) & segs) == number
    assert run()[0].before == 5


def test_a_study_that_gets_another_image_has_a_new_report(run, write, tmp_path):
    """It names the one that it takes the place of."""
    out, of_study = tmp_path / "out", {"StudyInstanceUID": "1.2.3", "IssuerOfPatientID": "I"}
    write("src/a.dcm", picture(1), **of_study)
    write("src/z.dcm", picture(2))
    assert run()[1]["a.dcm", 0]["report"] == ""
    write("src/b.dcm", picture(3), **of_study)
    rows = run()[1]
    first = dcmread(out / rows["a.dcm", 0]["report"])
    assert "PredecessorDocumentsSequence" not in first
    (out / "report" / "mine.dcm").write_bytes(b"mine")
    write("src/c.dcm", picture(4), **of_study)
    third, again = run()
    (out / "report" / "mine.dcm").unlink()
    assert (third.before, third.new) == (1, 3)
    assert again["a.dcm", 0]["seg"] == rows["a.dcm", 0]["seg"]
    assert again["z.dcm", 0]["report"] == ""
    assert len(third.dicom) == 9
    (file,) = (out / "report").iterdir()
    assert {again[f"{name}.dcm", 0]["report"] for name in "abc"} == {f"report/{file.name}"}
    second = dcmread(file)
    assert second.SOPInstanceUID != first.SOPInstanceUID
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (report,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == "1.2.3"
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert report.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert report.ReferencedSOPClassUID == first.SOPClassUID
    # What has to be made again does not lose it.
    content = file.read_bytes()
    (out / again["b.dcm", 0]["seg"]).unlink()
    assert run()[0].new == 3
    assert file.read_bytes() == content


def test_files_that_contradict_each_other_have_no_report(run, write, tmp_path):
    """Of two names, or of one SOP Instance UID for two images; each file has its own results."""
    uid = {"SOPInstanceUID": "1.2.5"}
    for k, (study, elements) in enumerate(
        [
            *((3, {"PatientName": name}) for name in ("Doe^Jane", "Doe^Jane", "Roe^Jane")),
            *((4, uid), (4, uid)),
            (5, {"PatientName": "Doe^Jane", "PatientSex": "F"}),
            (5, {"PatientName": "DOE^JANE^", "PatientSex": ""}),
        ]
    ):
        write(f"src/{k}.dcm", picture(k), StudyInstanceUID=f"1.2.{study}", **elements)
    done, rows = run()
    assert (done.new, done.unreported, len(done.dicom), +done.skipped) == (7, 5, 15, {})
    assert [bool(row["report"]) for row in rows.values()] == [False] * 5 + [True] * 2
    uids = {dcmread(tmp_path / "out" / file).SOPInstanceUID for file in done.dicom}
    assert len(uids) == 15
    told = table_of(tmp_path / "out" / "skipped.csv")
    expected = [(f"{k}.dcm", "", "contradiction", "skipped") for k in range(5)]
    assert [tuple(row[k] for k in ("path", "frame", "code", "kind")) for row in told] == expected
    again, _ = run()
    assert (again.before, again.new, again.unreported) == (7, 0, 5)
    assert table_of(tmp_path / "out" / "skipped.csv") == told


def test_a_file_that_changes_while_it_is_read(run, write, tmp_path, monkeypatch):
    """No results are of its frames before and after; the next call answers it."""
    path = write("src/a.dcm", picture(1))
    answer = Head.answer

    def late(head, pixels):
        write("src/a.dcm", picture(2), ImageComments="longer than before")
        return answer(head, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(Head, "answer", late)
        done, rows = run()
    assert (done.new, done.skipped, rows) == (0, {"changed": 1}, {})
    places = [tmp_path / "out" / place for place in folder.OUTPUTS]
    assert [file for place in places for file in place.iterdir()] == []
    assert path.is_file() and run()[0].new == 1


def test_what_is_lost_is_made_again(run, write, tmp_path):
    for k in range(4):
        write(f"src/{k}.dcm", picture(k))
    first, rows = run()
    uids = {file: dcmread(tmp_path / "out" / file).SOPInstanceUID for file in first.dicom}
    (tmp_path / "out" / rows["1.dcm", 0]["seg"]).unlink()
    (tmp_path / "out" / rows["2.dcm", 0]["overlay"]).unlink()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "seg").iterdir()}
    second, again = run()
    assert (second.before, second.new) == (2, 2)
    assert again == rows
    assert len(table_of(tmp_path / "out" / "predictions.csv")) == 4
    assert {f: dcmread(tmp_path / "out" / f).SOPInstanceUID for f in second.dicom} == uids
    untouched = tmp_path / "out" / rows["0.dcm", 0]["seg"]
    assert untouched.stat().st_mtime_ns == stamps[untouched]


def test_a_cine_is_answered_as_a_whole(run, write, tmp_path, monkeypatch):
    """A frame that cannot be read is left out of the results, and not looked at again."""
    frames = [picture(k) for k in range(4)]
    stream = io.BytesIO()
    Image.fromarray(frames[0]).save(stream, "JPEG")
    good = stream.getvalue()
    parts = [good, good[:200] + bytes(400), good, good]
    jpeg = {"syntax": "1.2.840.10008.1.2.4.50", "PixelData": encapsulate(parts)}
    write("src/a.dcm", frames[0], **{**cine(frames), **jpeg})
    first, rows = run()
    assert [frame for _, frame in rows] == [0, 2, 3]
    assert (first.new, first.skipped) == (3, {"decode-failed": 1})
    seg = dcmread(tmp_path / "out" / rows["a.dcm", 0]["seg"])
    assert len(seg.pixel_array) == 3
    assert seg.SourceImageSequence[0].ReferencedFrameNumber == [1, 3, 4]
    results = [p for place in folder.OUTPUTS for p in (tmp_path / "out" / place).iterdir()]
    stamps = [stamp_of(file.stat()) for file in results]
    assert len(stamps) == 2 + 3
    told = table_of(tmp_path / "out" / "skipped.csv")
    with monkeypatch.context() as patch:
        patch.setattr(Head, "answer", None)
        patch.setattr(batch, "decode_images", lambda _, images, *rest: iter(images))
        second, again = run()
    assert (second.before, second.new, second.skipped, again) == (3, 0, first.skipped, rows)
    assert [stamp_of(file.stat()) for file in results] == stamps
    assert table_of(tmp_path / "out" / "skipped.csv") == told
    write("src/a.dcm", frames[0], **cine(frames))
    third, _ = run()
    assert (third.before, third.new, third.skipped) == (0, 4, {})


def test_a_changed_file_is_answered_anew(run, write):
    write("src/a.dcm", picture(1))
    run()
    write("src/a.dcm", picture(2), ImageComments="longer than before")
    done, _ = run()
    assert (done.images, done.before, done.new) == (1, 0, 1)
    assert len(done.dicom) == 4


def test_another_model_or_process_keeps_out(load, run, write, tmp_path):
    write("src/a.dcm", picture(1))
    run()
    with pytest.raises(UserError, match="holds results of segmentation 1 with name segmentation,"):
        run(task="classification")
    model = load("segmentation").model
    with (
        open_results(tmp_path / "out", model, READER, "all"),
        pytest.raises(UserError, match="another"),
    ):
        run()


def test_results_of_before_familiarity_are_left_as_they_are(run, write, tmp_path):
    """An earlier version had no threshold in model.json and no such column."""
    write("src/a.dcm", picture(1))
    run()
    out = tmp_path / "out"
    (row,) = table_of(out / "predictions.csv")
    assert row.pop("familiarity") == ""  # these heads do not tell
    whose = json.loads((out / "model.json").read_text())
    del whose["threshold"]
    (out / "model.json").write_text(json.dumps(whose))
    with (out / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
    before = (out / "predictions.csv").read_bytes()
    message = r"predictions.csv: an earlier version .* familiarity\. Choose another folder\."
    with pytest.raises(UserError, match=message):
        run()
    assert (out / "predictions.csv").read_bytes() == before


def test_what_differs_is_told(load, tmp_path, monkeypatch):
    """Other weights of the same name and version, another crop, another version of the package."""
    model = load("segmentation").model
    other = dataclasses.replace(model, weights_digest="ab" * 32)
    digest = model.weights_digest[:12]

    def refusal(model, reader=READER, choice="all"):
        with pytest.raises(UserError) as refused, open_results(tmp_path, model, reader, choice):
            pass
        return str(refused.value).partition(" with ")[2]

    with open_results(tmp_path, model, READER, "all"):
        pass
    with open_results(tmp_path, model, READER, "all"):
        pass
    assert refusal(other) == (
        f"weights digest {digest}…, but now abababababab…. Choose another folder."
    )
    cropping = dataclasses.replace(READER, find_sector=True)
    assert refusal(other, cropping) == (
        f"weights digest {digest}…, but now abababababab…; find sector False, but now True. "
        "Choose another folder."
    )
    assert refusal(model, choice="middle") == ("frames all, but now middle. Choose another folder.")
    monkeypatch.setattr(folder, "SOFTWARE", "tf_dicom_ce 99")
    assert refusal(model) == (
        f"software tf_dicom_ce {__version__}, but now tf_dicom_ce 99. Choose another folder."
    )
    kept = json.loads((tmp_path / "model.json").read_text())
    assert kept["weights_digest"] == model.weights_digest
    del kept["weights_digest"], kept["software"]
    (tmp_path / "model.json").write_text(json.dumps(kept))
    assert "weights digest not recorded, but now" in refusal(model)


def test_a_full_disk_is_told(load, tmp_path):
    model = load("segmentation").model
    with (
        pytest.raises(UserError, match="No space left"),
        open_results(tmp_path, model, READER, "all"),
    ):
        raise OSError(28, "No space left on device")


def test_what_a_kill_left_behind_is_swept_away_and_nothing_else(load, tmp_path):
    head = load("segmentation")
    with open_results(tmp_path, head.model, READER, "all"):
        pass
    part = tmp_path / "seg" / ".123.part.x.dcm"
    others = [
        tmp_path / "seg" / ".mine.part.dcm",
        tmp_path / "mine" / ".123.part.x.dcm",
        tmp_path / "overlay" / "old.part.1.png",
    ]
    (tmp_path / "mine").mkdir()
    for path in (part, *others):
        path.write_bytes(b"half")
    with open_results(tmp_path, head.model, READER, "all"):
        assert not part.exists()
        assert all(path.exists() for path in others)


def test_a_folder_of_something_else_is_left_alone(load, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    model = load("segmentation").model
    refused = pytest.raises(UserError, match=r"holds other files than results \(thesis.tex\)")
    with refused, open_results(tmp_path, model, READER, "all"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"name": "mine"}'])
def test_a_model_of_something_else_is_left_alone(load, tmp_path, content):
    (tmp_path / "model.json").write_bytes(content)
    with (
        pytest.raises(UserError, match=r"model.json: tells of no model. Choose another folder."),
        open_results(tmp_path, load("segmentation").model, READER, "all"),
    ):
        pass
    assert (tmp_path / "model.json").read_bytes() == content


@pytest.mark.slow
def test_memory_does_not_grow_with_a_cine(run, write, tmp_path, monkeypatch):
    """230 frames, of which 128 a reading process may be ready ahead of the head."""
    frame = np.zeros((200, 300), np.uint8)
    frame[:, 150:] = 200
    write("src/cine.dcm", frame, **cine([frame] * 230))
    for module in (batch, decoding):
        monkeypatch.setattr(module, "guarded_map", guarded_map)
    monkeypatch.setattr(batch, "_READERS", 1)
    run(task="classification", choice="every:230")  # what is loaded once
    shutil.rmtree(tmp_path / "out")
    tracemalloc.start()
    try:
        done, _ = run(task="classification")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (done.before, done.new) == (0, 230)
    assert peak < 200 * frame.nbytes


def test_what_is_calibrated_is_measured(run, write, tmp_path):
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0 = item.RegionLocationMinX0 = 0
    item.RegionLocationMaxY1, item.RegionLocationMaxX1 = SIZE[0] - 1, SIZE[1] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = 0.05
    write("src/a.dcm", picture(3), SequenceOfUltrasoundRegions=[item])
    _, rows = run()
    row, bright = rows["a.dcm", 0], picture(3) > 0
    expected = measure(bright, (0.5, 0.5))
    assert float(row["area_cm2 liver"]) == pytest.approx(bright.sum() * 0.0025, abs=1e-3)
    assert float(row["longest_mm liver"]) == pytest.approx(expected.longest_mm, abs=1e-3)
    assert float(row["perpendicular_mm liver"]) == pytest.approx(
        expected.perpendicular_mm, abs=1e-3
    )
    report = dcmread(tmp_path / "out" / row["sr"])
    values = [e.value[0] for e in report.iterall() if e.keyword == "MeasuredValueSequence"]
    assert [f"{float(value.NumericValue):.3f}" for value in values] == [
        row[f"{kind} liver"] for kind in expected._fields
    ]


def test_a_head_is_asked_about_what_it_was_trained_on(heads, tmp_path, capsys):
    """A folder of CT and ultrasound, and a head whose encoder has learnt from CT."""
    version = shutil.copytree(heads / "segmentation" / "1", tmp_path / "ct" / "1")
    content = json.loads((version / "segmentation.json").read_text())
    content["sop_classes"] = ["1.2.840.10008.5.1.4.1.1.2"]
    (version / "segmentation.json").write_text(json.dumps(content))
    (tmp_path / "src").mkdir()
    for name in ("CT_small.dcm", "examples_ybr_color.dcm"):
        shutil.copy(get_testdata_file(name), tmp_path / "src")
    words = ["predict", tmp_path / "src", "--model", tmp_path / "ct", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    (row,) = table_of(tmp_path / "out" / "predictions.csv")
    for kind in ("seg", "sr"):
        found = dcmread(tmp_path / "out" / row[kind])
        named = [e.value for e in found.iterall() if e.keyword == "ReferencedSOPClassUID"]
        assert "CTImageStorage" in {uid.keyword for uid in named}
        assert "UltrasoundImageStorage" not in {uid.keyword for uid in named}
    assert float(row["area_cm2 liver"]) > 0
    (skipped,) = table_of(tmp_path / "out" / "skipped.csv")
    assert (skipped["path"], skipped["code"]) == ("examples_ybr_color.dcm", "not-ultrasound")


def test_the_server_gives_the_same_files(run, load, write, tmp_path):
    """Byte for byte, of a still and of the middle frame of a cine: what `/dicom` makes of it."""
    frames = [picture(k) for k in range(3)]
    write("src/cine.dcm", frames[0], **cine(frames))
    write("src/still.dcm", picture(7))
    _, rows = run(choice="middle")
    head = load("segmentation")
    for (path, _), row in rows.items():
        source = open_image(tmp_path / "src" / path)
        (answer,) = head.answer([source.pixels])
        finding = Finding.of(source, answer, head.model)
        for kind in ("seg", "sr"):
            content = dicom_bytes(kind, source, finding, head.model)
            assert (tmp_path / "out" / row[kind]).read_bytes() == content
