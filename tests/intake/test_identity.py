"""Who is who, by hand: a few files, and the patients that a careful reader would see."""

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import identity
from tf_dicom_ce.intake.coverage_report import render_page, summary, to_markdown
from tf_dicom_ce.intake.identity import Identity
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.tag_table import Entry

SCHEMA = TagSchema.load("ultrasound")


@pytest.fixture
def index(write, ramp, tmp_path):
    """Writes files from (Patient ID, issuer, study) and returns their index."""

    def make(*files, table=(), **elements):
        for k, (patient, issuer, study) in enumerate(files):
            path = f"in/{k:02d}"
            own = {"PatientID": patient, "StudyInstanceUID": study, **elements}
            write(path, ramp + k, **own | ({"IssuerOfPatientID": issuer} if issuer else {}))
        entries = {
            f"{k:02d}": Entry(f"t.csv, line {k}", {}, name) for k, name in dict(table).items()
        }
        return scan(tmp_path / "in", SCHEMA, entries, progress=False)

    return make


def patients(index):
    return [row.patient for row in index.rows]


def test_the_same_id_under_two_issuers_is_two_patients(index):
    found = index(("7", "A", "1.1"), ("7", "B", "1.2"), ("7", "A", "1.3"), ("8", "A", "1.4"))
    assert patients(found) == [0, 1, 0, 2]
    several = [Flag.SEVERAL_ISSUERS in row.flags for row in found.rows]
    assert several == [True, True, True, False]
    assert found.coverage.identification.told == {identity.Told.ISSUED: 4}


def test_an_id_without_issuer_may_be_that_of_any(index):
    found = index(("7", "A", "1.1"), ("7", "", "1.2"), ("7", "B", "1.3"), ("9", "", "1.4"))
    assert patients(found) == [0, 0, 0, 1]
    assert [Flag.WITHOUT_ISSUER in row.flags for row in found.rows] == [True] * 3 + [False]


@pytest.mark.parametrize("count", [1, 127, 128, 255, 256, 300])
def test_however_many_files_say_the_same(count):
    files = {f"{k}": Identity(f"{k}", "7A", "7", f"study {k}") for k in range(count)}
    files |= {"bare": Identity("bare", "7", "7", "study"), "other": Identity("other", "8", "8")}
    found = identity.tell_apart(files)
    assert len({found[path].pseudonym for path in files if path != "other"}) == 1
    assert found["other"].pseudonym == "8"


def test_a_study_of_which_some_files_lack_the_id_is_one_patient(index):
    found = index(
        ("", "", "1.1"), ("P", "", "1.1"), ("P", "", "1.2"), ("", "", "1.2"), ("", "", "1.3")
    )
    assert patients(found) == [0, 0, 0, 0, 1]
    assert found.rows[0].flags == (Flag.BY_STUDY,)
    assert found.rows[1].flags == ()
    assert found.coverage.identification.told == {"Patient ID": 2, "Study Instance UID": 3}


PLACEHOLDERS = (
    "ANON,anonymous,Anonymized^Patient,UNKNOWN, unknown ,0,000,TEST,-,N/A,none,XXXX,PATIENT ID,"
    "No Name,REMOVED,***"
)


@pytest.mark.parametrize("name", PLACEHOLDERS.split(","))
def test_a_placeholder_is_no_id(index, name):
    found = index((name, "", "1.1"), (name, "X", "1.2"), (name, "", "1.2"))
    assert patients(found) == [0, 1, 1]
    assert found.rows[0].flags == (Flag.PLACEHOLDER, Flag.BY_STUDY)
    assert found.coverage.identification.oddities[Flag.PLACEHOLDER] == 3


@pytest.mark.parametrize(
    "name", ["ANON0017", "TEST-2", "10", "Nancy", "Nilsson", "A", "X1", "UNKEL"]
)
def test_what_looks_like_a_placeholder_and_is_an_id(index, name):
    assert patients(index((name, "", "1.1"), (name, "", "1.2"))) == [0, 0]


def test_a_study_under_two_ids_is_one_patient_and_told(index):
    found = index(("P", "", "1.1"), ("Q", "", "1.1"), ("Q", "", "1.2"), ("R", "", "1.3"))
    assert patients(found) == [0, 0, 0, 1]
    assert [Flag.SEVERAL_IDS in row.flags for row in found.rows] == [True] * 3 + [False]


def test_the_table_stands_above_study_and_id(index):
    """One study UID for all, as some de-identification leaves it: the table tells them apart."""
    files = [("P", "", "1.1")] * 5
    assert patients(index(*files)) == [0] * 5
    found = index(*files, table={0: "a", 1: "b", 2: "a"})
    # 3 and 4 are of the study, of which the table knows two patients: neither is known to be them.
    assert patients(found) == [0, 1, 0, 2, 2]
    # Where the table knows one patient of a study, the others of the study are that patient's.
    assert patients(index(*files, table={1: "b"})) == [0] * 5


def test_an_instance_under_two_ids_is_one_patient(index):
    found = index(("P", "", "1.1"), ("Q", "", "1.2"), ("Q", "", "1.3"), SOPInstanceUID="1.9")
    # Other pixels under one UID: all stay, on one side, and say so.
    assert patients(found) == [0, 0, 0]
    assert all(Flag.SHARED_INSTANCE in row.flags for row in found.rows)
    assert found.coverage.identification.copies == 0


def test_copies_count_once(write, ramp, colours, tmp_path):
    one = write("in/b", ramp, SOPInstanceUID="1.9", PatientID="P")
    (tmp_path / "in" / "c").write_bytes(one.read_bytes())  # to the last byte
    with dcmread(one) as dataset:  # compressed, and under another ID
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.PatientID = "Q"
        dataset.save_as(tmp_path / "in" / "a")
    write("in/d", ramp[::-1], SOPInstanceUID="1.9", PatientID="P")
    write("in/e", ramp, PatientID="Q")  # the same pixels under another UID
    cine = {"NumberOfFrames": 9, "SOPInstanceUID": "1.8", "PatientID": "R"}
    frames = [ramp] * 9
    write("in/f", ramp, PixelData=b"".join(f.tobytes() for f in frames), **cine)
    frames[8] = ramp + 1  # only the last frame differs
    write("in/g", ramp, PixelData=b"".join(f.tobytes() for f in frames), **cine)
    found = scan(tmp_path / "in", SCHEMA, progress=False)
    assert [row.path for row in found.rows] == ["a", "d", "e", "f", "g"]
    assert [(p, r.code) for p, r in found.refusals] == [("b", Code.COPY), ("c", Code.COPY)]
    # The instance stands under P and Q.
    assert patients(found) == [0, 0, 0, 1, 1]
    assert found.coverage.identification.copies == 2
    assert (found.coverage.images, found.coverage.skipped) == (5, 2)
    shared = {row.path for row in found.rows if Flag.SHARED_INSTANCE in row.flags}
    assert shared == {"a", "d", "f", "g"}
    assert "2 files are copies; each image" in summary(found)
    assert to_markdown(found.coverage).count("copies of other files") == 1
    assert scan(tmp_path / "in", SCHEMA, progress=False) == found  # from what was kept


def test_copies_with_two_patients_in_the_table_are_a_mistake(write, ramp, tmp_path):
    path = write("in/a", ramp)
    (tmp_path / "in" / "b").write_bytes(path.read_bytes())
    table = {name: Entry(f"t.csv, line {k}", {}, f"P{k}") for k, name in enumerate("ab", 2)}
    with pytest.raises(UserError, match=r"line 3: 'b' is the same image as 'a' \(t.csv, line 2\)"):
        scan(tmp_path / "in", SCHEMA, table, progress=False)
    # Of copies the one that the table lists counts.
    found = scan(tmp_path / "in", SCHEMA, {"b": table["b"]}, progress=False)
    assert [row.path for row in found.rows] == ["b"]


def test_warnings(index):
    def warnings(*files):
        found = index(*files)
        text = render_page(found, False, {})
        for sentence in found.coverage.identification.warnings:
            assert sentence in text
            assert f"WARNING: {sentence}" in summary(found)
        return found.coverage.identification.warnings

    own = [(f"P{k}", "", f"1.{k}") for k in range(1, 6)]
    (text,) = warnings(*own)
    assert text.startswith("Each of the 5 images has its own patient.")
    assert warnings(*own[:3], own[0], own[1]) == ()
    (text,) = warnings(*[own[0]] * 3, own[1], own[2])
    assert text.startswith("One patient has 3 of 5 images.")
    (text,) = warnings(*[own[0]] * 5)
    assert text.startswith("All 5 images are of one patient.")


def test_pseudonyms_do_not_depend_on_what_else_is_there(index):
    alone = index(("P", "", "1.1"))
    among = index(("P", "", "1.1"), ("", "", "1.1"), ("A", "", "1.2"))
    assert among.rows[0].pseudonym == among.rows[1].pseudonym == alone.rows[0].pseudonym
