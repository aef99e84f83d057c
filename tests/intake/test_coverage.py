"""The counts of a handful of files, worked out by hand."""

import csv
import json

import pytest

from tf_dicom_ce.dicom.reader import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.coverage import require_tags, warn_of_rare_tags
from tf_dicom_ce.intake.coverage_report import (
    require_readable,
    summary,
    to_markdown,
    write_coverage,
)
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema

DECODE_FAILED = Refusal(Code.DECODE_FAILED, "RuntimeError")


@pytest.fixture
def index(tmp_path, write, ramp):
    for name, elements in {
        "1": {"StudyDescription": "US LIVER", "TransducerData": ["C5-1", "UNUSED"]},
        "2": {"StudyDescription": "US LIVER", "TransducerData": "S5-1", "PatientID": "P2"},
        "3": {"StudyDescription": "  us liver", "TransducerData": ["UNUSED", "UNUSED"]},
        "4": {"StudyDescription": "US GUIDED INTERVENTION", "TransducerData": ""},
        "5": {"StudyDescription": "", "TransducerData": "51|52"},
        "6": {"PatientID": ""},
    }.items():
        write(f"in/{name}", ramp, **elements)
    path = write("in/7", ramp)
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "in" / "8").write_text("hello")
    return scan(tmp_path / "in", TagSchema.load("ultrasound"), progress=False)


def test_counts(index):
    coverage = index.coverage
    assert (coverage.files, coverage.images, coverage.patients) == (8, 6, 3)
    assert coverage.flags == {}
    assert coverage.identification.told == {"Patient ID": 5, "Study Instance UID": 1}
    assert coverage.identification.oddities == {"no Patient ID, patient taken from the study": 1}
    assert coverage.identification.largest == 4
    assert coverage.unmapped_files == 3  # 4, 5 and 6
    assert coverage.refusals == {Code.NOT_DICOM: 1, Code.TRUNCATED: 1}
    assert (coverage.skipped, coverage.unreadable) == (1, 1)

    study = coverage.tags["study"]
    assert study.states == {"mapped": 3, "unmapped": 1, "empty": 1, "missing": 1, "ignored": 0}
    assert study.untidy == 1
    groups = {label: count for label, count in study.labels.items() if count}
    assert groups == {"liver": 3, "abdomen": 3}
    assert study.mapped_values == {
        "US LIVER": (2, ("liver", "abdomen")),
        "  us liver": (1, ("liver", "abdomen")),
    }
    assert study.unmapped_values == {"US GUIDED INTERVENTION": 1}
    assert study.untidy_values == {"  us liver": 1}

    probe = coverage.tags["probe"]
    assert probe.states == {"mapped": 2, "unmapped": 1, "empty": 1, "missing": 1, "ignored": 1}
    assert probe.labels == {"linear": 0, "curvilinear": 1, "phased": 1}
    assert probe.mapped_values == {"C5-1": (1, ("curvilinear",)), "S5-1": (1, ("phased",))}
    assert probe.ignored_values == {"UNUSED\\UNUSED": 1}


def test_files(index, tmp_path):
    folder = tmp_path / "new" / "run"
    write_coverage(index, folder, {1: DECODE_FAILED})
    assert sorted(p.name for p in folder.iterdir()) == [
        "coverage.html",
        "coverage.json",
        "coverage.md",
        "files.csv",
    ]
    counts = json.loads((folder / "coverage.json").read_text())
    assert counts["tags"]["study"]["unmapped_values"] == {"US GUIDED INTERVENTION": 1}
    assert counts["refusals"] == {"not-dicom": 1, "truncated": 1, "decode-failed": 1}
    with (folder / "files.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert list(rows) == list("12345678")
    assert rows["1"]["what"] == "20×30 MONOCHROME2, Explicit VR Little Endian"
    assert rows["1"]["labels"] == "liver|abdomen|curvilinear"
    patients = {name: rows[name]["patient"] for name in "123456"}
    assert len(set(patients.values())) == 3
    assert patients["1"] == patients["3"] == patients["4"] == patients["5"]
    assert all(len(p) == 32 and p != "P1" for p in patients.values())
    assert rows["6"]["flags"] == "no Patient ID, patient taken from the study"
    assert (rows["2"]["status"], rows["2"]["what"]) == ("unreadable", "decode-failed RuntimeError")
    assert (rows["7"]["status"], rows["8"]["status"]) == ("unreadable", "skipped")


def test_markdown_names_every_defect_with_its_count(index, tmp_path):
    write_coverage(index, tmp_path, {1: DECODE_FAILED})
    lines = (tmp_path / "coverage.md").read_text().splitlines()
    for line in (
        '| "US GUIDED INTERVENTION" | 1 | "US DRAINAGE INTERVENTION NOT OTHERWISE SPECIFIED" '
        "| soft tissue, drainage |",
        '| "  us liver" | 1 |',
        '| "UNUSED\\UNUSED" | 1 |',
        '| "51\\|52" | 1 |  |  |',
        '| "S5-1" | 1 | phased |',
        "| mapped | 3 | 50.0 % |",
        "| of these untidy | 1 | 16.7 % |",
        f"| truncated | unreadable | 1 | {Code.TRUNCATED.remedy} |",
        "| 2 | decode-failed | RuntimeError |",
        "| 7 | truncated | (7FE0,0010) 'Pixel Data' |",
    ):
        assert line in lines


def test_markdown_without_refusals_has_no_section_for_them(index):
    assert "Unreadable files" not in to_markdown(index.coverage)


def test_summary_holds_counts_and_no_values(index):
    assert summary(index, {1: DECODE_FAILED}) == (
        "6 images of 3 patients; 1 other files skipped, 2 unreadable\n"
        "study: 3 mapped (1 after tidying), 1 unmapped, 1 empty, 1 missing\n"
        "probe: 2 mapped, 1 unmapped, 1 empty, 1 missing, 1 ignored\n"
        "Patients identified by: Patient ID (5), Study Instance UID (1)\n"
        "1 files: no Patient ID, patient taken from the study\n"
        "WARNING: One patient has 4 of 6 images. If that is wrong, give a labels CSV with a column "
        "patient."
    )


def test_half_of_the_files_have_to_be_readable(index):
    # One of seven was cut off; two more make it 3 to 4, three more 4 to 3.
    require_readable(index)
    require_readable(index, dict.fromkeys(range(2), DECODE_FAILED))
    with pytest.raises(UserError, match=r"(?s)4 of 7 .*1 truncated: .*3 decode-failed: "):
        require_readable(index, dict.fromkeys(range(3), DECODE_FAILED))


def test_old_report_is_replaced_whole_or_not_at_all(index, tmp_path, monkeypatch):
    write_coverage(index, tmp_path)
    before = (tmp_path / "coverage.md").read_text()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        write_coverage(index, tmp_path, {1: DECODE_FAILED})
    assert (tmp_path / "coverage.md").read_text() == before
    assert not list(tmp_path.glob(".*"))


def test_names_that_are_not_unicode_do_not_stop_the_report(tmp_path, write, ramp):
    path = write("in/a", ramp)
    path.rename(str(path.parent) + "/\udcff.dcm")
    index = scan(tmp_path / "in", TagSchema.load("ultrasound"), progress=False)
    write_coverage(index, tmp_path / "run")
    assert "\\udcff.dcm" in (tmp_path / "run" / "files.csv").read_text()


def test_tags_that_hardly_any_image_has(capsys):
    with pytest.raises(UserError, match="No image has a tag that the schema knows"):
        require_tags({"study": 0.0, "probe": 0.0})
    require_tags({"study": 0.04, "probe": 0.0})
    warn_of_rare_tags({"study": 0.04, "probe": 0.05})
    error = capsys.readouterr().err
    assert "WARNING: only 4.0 % of the images have a known value of the tag study" in error
    assert "probe" not in error
