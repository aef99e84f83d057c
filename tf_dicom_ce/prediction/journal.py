"""A CSV that grows by whole rows: what was added is there, and whole, after a kill at any time."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.whole_files import as_csv, write_table

Row = dict[str, str]


class Journal:
    """Rows by column name; one process at a time.

    Attributes:
        rows: All of them, those that were found in the file first.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], keep: Callable[[Row], bool] = lambda row: True
    ):
        """Opens the file, or makes it.

        Args:
            path: The file.
            columns: Names of all columns.
            keep: Tells of an earlier row whether it still holds; else it is taken out.

        Raises:
            UserError: The file has other columns.
        """
        self.rows = [row for row in _whole_rows(path, columns) if keep(row)]
        self._path, self._columns = path, columns
        write_table(path, columns, self.rows)

    def add(self, *rows: Row) -> None:
        """Adds rows for good."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(as_csv(self._columns, rows))
        self.rows += rows


def _whole_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of the file but one that was cut off at its end."""
    if not path.exists():
        return []
    text = path.read_bytes().rpartition(b"\n")[0].decode(errors="replace")
    reader = csv.DictReader(io.StringIO(text))
    if list(reader.fieldnames or []) != list(columns):
        raise UserError(f"{path}: not written by this command; choose another folder.")
    return [row for row in reader if None not in row and None not in row.values()]
