import numpy as np
import pytest

from tf_dicom_ce.dicom.reader import Code
from tf_dicom_ce.dicom.tags import TagSchema
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import index as index_module
from tf_dicom_ce.intake.index import PATIENT_BY_FILE, PATIENT_BY_STUDY, scan


@pytest.fixture(scope="module")
def schema():
    return TagSchema.load("ultrasound")


def test_rows(tmp_path, write, ramp, colours, schema):
    write("b/2", ramp, StudyDescription="US LIVER", TransducerData="C5-1", PatientID="B")
    cine = {"NumberOfFrames": 2, "PixelData": colours.tobytes() * 2}
    path = write("b/1.dcm", colours, PatientID="A", **cine)
    write("a", ramp, PatientID="B")
    index = scan(tmp_path, schema, progress=False)
    assert index.root == tmp_path
    assert index.schema is schema
    assert [row.path for row in index.rows] == ["a", "b/1.dcm", "b/2"]
    assert [row.patient for row in index.rows] == [0, 1, 0]
    assert [row.frames for row in index.rows] == [1, 2, 1]
    assert index.rows[1].size == path.stat().st_size
    assert index.rows[1].mtime_ns == path.stat().st_mtime_ns
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
        ("7", "P", "1.2.3"),
        ("8", "P ", "1.2.5"),
    ):
        write(name, ramp, PatientID=patient, StudyInstanceUID=study)
    write("9", ramp, PatientID=None, StudyInstanceUID=None)
    index = scan(tmp_path, schema, progress=False)
    assert [row.patient for row in index.rows] == [0, 1, 0, 2, 3, 4, 5, 5, 6]
    by_study, by_file = (PATIENT_BY_STUDY,), (PATIENT_BY_FILE,)
    flags = [by_study] * 3 + [by_file] * 2 + [()] * 3 + [by_file]
    assert [row.flags for row in index.rows] == flags
    assert index.coverage.patients == 7
    assert index.coverage.flags == {PATIENT_BY_STUDY: 3, PATIENT_BY_FILE: 3}


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
    monkeypatch.setattr(index_module, "_IN_PROCESS", 10)
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
