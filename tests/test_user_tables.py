"""Tables as spreadsheets write them, and the one message where they cannot be read."""

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_tables import read_table

ROWS = [{"path": "a b.png", "label": "1,5"}, {"path": "ü;.png", "label": ""}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path, encoding, separator, end):
    heading = separator.join(["path", ' "label" '.strip()])
    lines = [
        heading,
        separator.join([" a b.png ", '"1,5"']),
        separator * 1,
        separator.join(['"ü;.png"', ""]),
    ]
    (tmp_path / "t.csv").write_bytes((end.join(lines) + end + end).encode(encoding))
    columns, read = read_table(tmp_path / "t.csv", "path")
    assert columns == ["path", "label"]
    assert [line.cells for line in read] == ROWS
    assert [line.where for line in read] == ["t.csv, line 2", "t.csv, line 4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv, line 1: no column 'path'. The columns are: none."),
        (b"a;b\n", "t.csv, line 1: no column 'path'. The columns are: a, b."),
        (b"path,x,x\n", "t.csv, line 1: column 'x' occurs twice. Remove one."),
        (b"path;label\na;1\nb\n", "t.csv, line 3: 1 cells, but 2 columns. Keep empty"),
        (b"path,label\na,1,2\n", "t.csv, line 2: 3 cells, but 2 columns."),
        (b"path\nM\xfcller\n", "t.csv, line 2: not UTF-8. In Excel, save it as"),
        (b'path\n"a\n', "t.csv, line 2: unexpected end of data."),
    ],
)
def test_mistakes(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "t.csv", "path")
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none.csv: No such file"):
        read_table(tmp_path / "none.csv", "path")
