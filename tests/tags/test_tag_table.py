"""Labels CSV over the headers, and over pictures that have none."""

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.tag_table import AUDIT_COLUMNS, read_tag_table, read_tag_tables

SCHEMA = TagSchema.load("ultrasound")


@pytest.fixture
def table(tmp_path):
    def read(text):
        path = tmp_path / "tags.csv"
        path.write_bytes(text.encode("utf-8-sig"))
        return read_tag_table(path, SCHEMA)

    return read


def test_columns_become_values(table):
    entries = table(
        "path,patient,StudyDescription,TransducerData,label\n"
        "a//b.dcm,7,US LIVER,C5-1\\UNUSED,good\n"
        'c,,,"  ",\n'
    )
    assert entries["a/b.dcm"].values == {
        "StudyDescription": ("US LIVER",),
        "TransducerData": ("C5-1", "UNUSED"),
    }
    assert (entries["a/b.dcm"].patient, entries["c"].patient) == ("7", None)
    assert entries["c"].values == {}
    assert entries["c"].where == "tags.csv, line 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'. The columns are: none"),
        ("name\na\n", "no column 'path'. The columns are: name"),
        (
            "path,Rows,Columns\na,1,2\n",
            "Rows, Columns: no element of the tag schema. Elements are: StudyDescription",
        ),
        ("path\na\na\n", "tags.csv, line 3: this path is in tags.csv, line 2"),
        ("path,label\na\n", "tags.csv, line 2: 1 cells, but 2 columns"),
        ("path\n", "no lines below"),
        ('path\n"a', "tags.csv, line 2: unexpected end of data"),
    ],
)
def test_mistakes_are_named(table, text, message):
    with pytest.raises(UserError, match=message):
        table(text)


def test_the_table_stands_above_the_headers(table, write, ramp, tmp_path):
    write("in/1", ramp, PatientID="P", StudyDescription="US THYROID", TransducerData="SL10-2")
    write("in/2", ramp, PatientID="", StudyDescription="")
    write("in/3", ramp, PatientID="P", StudyDescription="US THYROID")
    entries = table("path,patient,StudyDescription\n1,,US CHEST\n2,P,US LIVER\n")
    index = scan(tmp_path / "in", SCHEMA, entries, progress=False)
    found = [{k for k, on in zip(SCHEMA.labels, r.y, strict=True) if on} for r in index.rows]
    assert found == [{"chest", "linear"}, {"liver", "abdomen"}, {"thyroid"}]
    # The table's patients are the headers' patients.
    assert [row.patient for row in index.rows] == [0, 0, 0]
    assert Flag.TAGS_FROM_TABLE in index.rows[0].flags
    assert index.rows[1].flags == (Flag.FROM_TABLE, Flag.TAGS_FROM_TABLE)
    assert index.rows[2].flags == ()
    # What is kept of the headers does not depend on the table.
    again = scan(tmp_path / "in", SCHEMA, progress=False)
    assert again.read == 0
    assert [sum(row.y) for row in again.rows] == [2, 0, 1]


def test_pictures_are_images_if_they_are_listed(table, write, ramp, tmp_path):
    write("in/1", ramp)
    for name in ("2.png", "3.jpg", "4.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "in" / name)
    entries = table("path,StudyDescription,patient\n2.png,US LIVER,A\n3.jpg,US CHEST,\n")
    index = scan(tmp_path / "in", SCHEMA, entries, progress=False)
    assert [row.kind for row in index.rows[1:]] == ["20×30 PNG", "20×30 JPEG"]
    assert [row.patient for row in index.rows] == [0, 1, 2]
    assert index.refusals[0][0] == "4.png"
    assert index.refusals[0][1].code is Code.UNLISTED_PICTURE


def test_a_line_without_a_file_is_a_mistake(table, write, ramp, tmp_path):
    write("in/1", ramp)
    with pytest.raises(UserError, match=r"tags.csv, line 2: no such file in .*in"):
        scan(tmp_path / "in", SCHEMA, table("path\nother\n"), progress=False)


HEAD = ",".join(AUDIT_COLUMNS) + "\n"


def test_of_an_audit_the_accepted_lines_count(table):
    entries = table(
        HEAD
        + "a,study,US CHEST,US LIVER,0.9,0.8,0,yes\n"
        + "a,probe,,C5-1\\x,,0.8,0,Y\n"
        + "b,study,US CHEST,US LIVER,0.9,0.8,1,no\n"
        + "c,study,US CHEST,US LIVER,0.9,0.8,2,\n"
        + "'=d,study,US CHEST,'-US,0.9,0.8,3,1\n"
    )
    assert {path: entry.values for path, entry in entries.items()} == {
        "a": {"StudyDescription": ("US LIVER",), "TransducerData": ("C5-1", "x")},
        "=d": {"StudyDescription": ("-US",)},
    }
    assert entries["a"].patient is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,study,x,US LIVER,,,0,maybe", "tags.csv, line 2: accept is 'maybe'. Write yes or no"),
        ("a,organ,x,US LIVER,,,0,yes", "no tag 'organ'. Its tags are: study, probe"),
        ("a,study,x,,,,0,yes", "line 2: accepts an empty value. Fill in the column proposed"),
        ("a,study,x,US LIVER,,,0,no", "no line is accepted. Write yes in the column accept"),
        ("a,study,x,Y,,,0,yes\na,study,x,Z,,,0,yes", "line 3: the study of this path has a line"),
    ],
)
def test_mistakes_in_an_audit_are_named(table, line, message):
    with pytest.raises(UserError, match=message):
        table(HEAD + line + "\n")


def test_of_several_tables_a_later_one_stands_above(tmp_path):
    (tmp_path / "a.csv").write_text(
        "path,patient,StudyDescription,TransducerData\nx,7,US CHEST,C5-1\ny,8,US CHEST,\n"
    )
    (tmp_path / "b.csv").write_text(HEAD + "x,study,US CHEST,US LIVER,0.9,0.8,0,yes\n")
    entries = read_tag_tables([tmp_path / "a.csv", tmp_path / "b.csv"], SCHEMA)
    assert entries["x"].values == {"StudyDescription": ("US LIVER",), "TransducerData": ("C5-1",)}
    assert (entries["x"].patient, entries["x"].where) == ("7", "b.csv, line 2")
    assert entries["y"].values == {"StudyDescription": ("US CHEST",)}
