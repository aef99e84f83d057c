"""A table that may be cut off at any byte."""

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.prediction.folder import Journal

COLUMNS = ("file", "what")
ROWS = [{"file": "a", "what": "1"}, {"file": "b", "what": 'x,"y"'}, {"file": "c", "what": ""}]


def test_rows_come_back(tmp_path):
    path = tmp_path / "t.csv"
    journal = Journal(path, COLUMNS)
    journal.add(*ROWS[:2])
    journal.add(ROWS[2])
    assert journal.rows == ROWS
    assert path.read_text() == 'file,what\na,1\nb,"x,""y"""\nc,\n'
    assert Journal(path, COLUMNS).rows == ROWS


def test_cut_off_at_any_byte(tmp_path):
    path = tmp_path / "t.csv"
    Journal(path, COLUMNS).add(*ROWS)
    whole = path.read_bytes()
    names = whole.index(b"\n") + 1
    for length in range(names, len(whole) + 1):
        path.write_bytes(whole[:length])
        rows = whole[names:length].count(b"\n")
        journal = Journal(path, COLUMNS)
        assert journal.rows == ROWS[:rows]
        journal.add(*ROWS[rows:])
        assert path.read_bytes() == whole


def test_rows_that_no_longer_hold_are_taken_out(tmp_path):
    path = tmp_path / "t.csv"
    Journal(path, COLUMNS).add(*ROWS)
    journal = Journal(path, COLUMNS)
    journal.keep(journal.rows[::2])
    assert journal.rows == [ROWS[0], ROWS[2]]
    assert path.read_text() == "file,what\na,1\nc,\n"


def test_a_table_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,age\nx,1\n")
    with pytest.raises(UserError, match="columns that differ: age, file, name, what"):
        Journal(path, COLUMNS)
    assert path.read_text() == "name,age\nx,1\n"


def test_a_name_that_is_no_unicode(tmp_path):
    path = tmp_path / "t.csv"
    Journal(path, COLUMNS).add({"file": "a\udcff", "what": ""})
    assert Journal(path, COLUMNS).rows == [{"file": "a\\udcff", "what": ""}]
