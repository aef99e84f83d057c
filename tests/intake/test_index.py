import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tf_dicom_ce import tags
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import examination
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema


@pytest.fixture(scope="module")
def schema():
    return TagSchema.load("ultrasound")


def test_rows(tmp_path, write, ramp, colours, schema):
    write("b/2", ramp, StudyDescription="US LIVER", TransducerData="C5-1", PatientID="B")
    cine = {"NumberOfFrames": 2, "PixelData": colours.tobytes() * 2}
    write("b/1.dcm", colours, PatientID="A", **cine)
    write("a", ramp, PatientID="B")
    index = scan(tmp_path, schema, progress=False)
    assert index.root == tmp_path
    assert index.schema is schema
    assert [row.path for row in index.rows] == ["a", "b/1.dcm", "b/2"]
    assert [row.patient for row in index.rows] == [0, 1, 0]
    assert [row.frames for row in index.rows] == [1, 2, 1]
    assert index.rows[1].kind == "20×30 RGB, 2 frames, Explicit VR Little Endian"
    assert index.rows[2].kind == "20×30 MONOCHROME2, Explicit VR Little Endian"
    assert index.rows[2].y == (1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0)
    assert index.rows[2].present == (True,) * 11
    assert index.rows[0].present == (False,) * 11
    assert index.refusals == ()


def test_patients_without_an_id_are_told_apart(tmp_path, write, ramp, schema):
    for name, patient, study in (
        ("1", "", "1.2.3"),
        ("2", "", "1.2.4"),
        ("3", " ", "1.2.3"),
        ("4", "", ""),
        ("5", "", ""),
        ("6", "1.2.3", "1.2.9"),  # an ID that looks like the UID of another's study
        ("7", "P", "1.2.10"),
        ("8", "P ", "1.2.5"),
    ):
        write(name, ramp, PatientID=patient, StudyInstanceUID=study)
    write("9", ramp, PatientID=None, StudyInstanceUID=None)
    index = scan(tmp_path, schema, progress=False)
    assert [row.patient for row in index.rows] == [0, 1, 0, 2, 3, 4, 5, 5, 6]
    flags = [(Flag.BY_STUDY,)] * 3 + [(Flag.BY_FILE,)] * 2 + [()] * 3 + [(Flag.BY_FILE,)]
    assert [row.flags for row in index.rows] == flags
    assert index.coverage.patients == 7
    assert index.coverage.identification.oddities == {Flag.BY_STUDY: 3, Flag.BY_FILE: 3}
    assert index.coverage.flags == {}


def test_other_files_are_refused_by_code(tmp_path, write, ramp, schema):
    path = write("ok", ramp)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-5])
    write("ct", ramp, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    index = scan(tmp_path, schema, progress=False)
    assert [row.path for row in index.rows] == ["ok"]
    assert [(path, refusal.code) for path, refusal in index.refusals] == [
        ("ct", Code.NOT_ULTRASOUND),
        ("cut", Code.TRUNCATED),
        ("link", Code.NOT_REGULAR),
        ("loop", Code.NOT_REGULAR),
        ("notes.txt", Code.NOT_DICOM),
    ]


def test_result_does_not_depend_on_the_workers(tmp_path, write, schema, monkeypatch):
    monkeypatch.setattr(examination, "_IN_PROCESS", 10)
    rng = np.random.default_rng(1)
    for k in range(40):
        patient, study = f"P{rng.integers(9)}", ("US LIVER", "US CHEST", "odd")[k % 3]
        pixels = np.full((2, 2), k, np.uint8)
        write(f"in/{k % 4}/{k}", pixels, PatientID=patient, StudyDescription=study)
    (tmp_path / "in" / "0" / "x").write_text("no image")
    one, two = (
        scan(tmp_path / "in", schema, cache=tmp_path / f"cache{workers}", workers=workers)
        for workers in (1, 2)
    )
    assert (len(one.rows), one.read, two.read) == (40, 41, 41)
    assert one == two


def test_progress_goes_to_standard_error_only(tmp_path, write, ramp, schema, capsys):
    write("a", ramp)
    scan(tmp_path, schema)
    assert capsys.readouterr().out == ""


def test_user_errors(tmp_path, write, ramp, schema):
    with pytest.raises(UserError, match=r"none does not exist"):
        scan(tmp_path / "none", schema)
    with pytest.raises(UserError, match=r"is empty"):
        scan(tmp_path, schema)
    with pytest.raises(UserError, match=r"a is not a folder"):
        scan(write("a", ramp, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), schema)
    (tmp_path / "b").write_text("1")
    (tmp_path / "c").write_text("2")
    with pytest.raises(UserError, match=r"3 files are: 2 not-dicom, 1 not-ultrasound"):
        scan(tmp_path, schema, progress=False)


def test_only_what_changed_is_read_again(tmp_path, write, ramp, schema):
    for name in ("1", "2", "3"):
        write(f"in/{name}", ramp, StudyDescription="US LIVER")
    (tmp_path / "in" / "4").write_text("no image")
    first = scan(tmp_path / "in", schema, progress=False)
    assert first.read == 4
    again = scan(tmp_path / "in", schema, progress=False)
    assert (again.read, again) == (0, first)
    write("in/2", ramp, StudyDescription="US CHEST", PatientName="longer")
    (tmp_path / "in" / "3").unlink()
    write("in/5", ramp)
    changed = scan(tmp_path / "in", schema, progress=False)
    assert changed.read == 2
    assert [row.path for row in changed.rows] == ["1", "2", "5"]
    assert changed.rows[1].y[schema.labels.index("chest")] == 1


def test_a_schema_with_the_same_elements_needs_no_reading(tmp_path, write, ramp, schema):
    write("in/1", ramp, StudyDescription="US BIOPSY KIDNEY FOCAL (LEFT)")
    default = scan(tmp_path / "in", schema, progress=False)
    # The paper's schema looks at other elements.
    paper = scan(tmp_path / "in", TagSchema.load("ultrasound-paper"), progress=False)
    own = tmp_path / "own.toml"
    text = (Path(tags.__file__).parent / "ultrasound.toml").read_text()
    own.write_text(text.replace("corrected = true", "corrected = false"))
    shutil.copy(Path(tags.__file__).parent / "study_descriptions.csv", tmp_path)
    uncorrected = scan(tmp_path / "in", TagSchema.load(own), progress=False)
    assert (default.read, paper.read, uncorrected.read) == (1, 1, 0)
    liver = schema.labels.index("liver")
    assert [i.rows[0].y[liver] for i in (default, paper, uncorrected)] == [0, 1, 1]


def test_what_may_pass_is_looked_at_again(tmp_path, write, ramp, schema, monkeypatch):
    for name in ("1", "2"):
        write(f"in/{name}", ramp)
    with monkeypatch.context() as patch:
        refusals = {"1": Refusal(Code.READER_DIED)}
        whole = examination.examine

        def dying(root, schema, secret, path):
            return refusals.get(path) or whole(root, schema, secret, path)

        patch.setattr(examination, "examine", dying)
        first = scan(tmp_path / "in", schema, progress=False)
        assert first.refusals == (("1", Refusal(Code.READER_DIED)),)
    second = scan(tmp_path / "in", schema, progress=False)
    assert (second.read, len(second.rows)) == (1, 2)


KILLED = """
import sys
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.intake import file_cache, index
file_cache._SAVE_EVERY = 20
print("go", flush=True)
index.scan(sys.argv[1], TagSchema.load("ultrasound"), progress=False)
"""


def test_a_killed_scan_loses_nothing(tmp_path, write, schema):
    for k in range(400):
        write(f"in/{k:03d}", np.full((2, 2), k % 250, np.uint8), PatientID=str(k % 7))
    expected = scan(tmp_path / "in", schema, cache=tmp_path / "other", progress=False)
    (tmp_path / "script.py").write_text(KILLED)
    rng = np.random.default_rng(0)
    for _ in range(6):
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "in")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.8))
            process.kill()
    assert scan(tmp_path / "in", schema, progress=False) == expected
    assert scan(tmp_path / "in", schema, progress=False).read == 0


def test_images_with_a_flag_are_left_out(tmp_path, write, ramp, schema):
    write("1", ramp, BurnedInAnnotation="YES")
    write("2", ramp, BurnedInAnnotation="NO", LossyImageCompression="01")
    write("3", ramp, PatientID="")
    write("4", ramp)

    def kept(*flags):
        found = scan(tmp_path, schema, progress=False, exclude=frozenset(flags))
        left = [path for path, refusal in found.refusals if refusal.code is Code.EXCLUDED]
        assert found.coverage.refusals == ({Code.EXCLUDED: len(left)} if left else {})
        assert found.coverage.skipped == len(left)
        assert sorted([*left, *(row.path for row in found.rows)]) == list("1234")
        return "".join(row.path for row in found.rows)

    assert kept() == "1234"
    assert kept(Flag.BURNED_IN) == "234"
    assert kept(Flag.BURNED_IN, Flag.LOSSY) == "34"
    assert kept(Flag.BY_STUDY) == "124"
    assert kept(Flag.OVERLAY) == "1234"
    with pytest.raises(UserError, match="its 1 files are: 1 excluded"):
        for name in "234":
            (tmp_path / name).unlink()
        kept(Flag.BURNED_IN)


def test_a_copy_of_an_image_that_is_left_out_is_left_out(tmp_path, write, ramp, schema):
    """Its header may say less, but it is the same picture."""
    same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2"}
    for order in ("ab", "ba"):
        write(order[0], ramp, **same)
        write(order[1], ramp, BurnedInAnnotation="YES", **same)
        write("c", ramp)
        found = scan(tmp_path, schema, progress=False, exclude=frozenset({Flag.BURNED_IN}))
        assert [row.path for row in found.rows] == ["c"]
        assert found.refusals == (("a", Refusal(Code.EXCLUDED)), ("b", Refusal(Code.COPY)))


def test_flags_that_decoding_told(tmp_path, write, ramp, schema):
    write("1", ramp, LossyImageCompression="01")
    write("2", ramp, LossyImageCompression="01")
    found = scan(tmp_path, schema, progress=False)
    more = found.with_decoded({1: [Flag.LOSSY, Flag.NO_END_MARKER, Flag.NO_END_MARKER]})
    assert [row.flags for row in more.rows] == [
        (Flag.LOSSY,),
        (Flag.LOSSY, Flag.NO_END_MARKER),
    ]
    assert more.coverage.flags == {Flag.LOSSY: 2, Flag.NO_END_MARKER: 1}
    assert found.coverage.flags == {Flag.LOSSY: 2}


def test_flags_are_kept_with_the_headers(tmp_path, write, ramp, schema):
    write("1", ramp, BurnedInAnnotation="YES")
    first = scan(tmp_path, schema, progress=False)
    again = scan(tmp_path, schema, progress=False)
    assert (first.read, again.read) == (1, 0)
    assert again == first
    assert again.rows[0].flags[0] is Flag.BURNED_IN
