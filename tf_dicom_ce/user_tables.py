"""Reads the CSV tables of users, as Excel and other programs write them."""

import csv
import io
import os
import re
from pathlib import Path
from typing import NamedTuple

from tf_dicom_ce.errors import UserError


class Line(NamedTuple):
    """One line of a table: file and line for messages, and text by column, without outer blanks."""

    where: str
    cells: dict[str, str]


def read_table(path: Path, *required: str) -> tuple[list[str], list[Line]]:
    """Reads a CSV: commas, semicolons or tabs; UTF-8 with or without BOM, or UTF-16 with one.

    The separator is the one that gives a heading with the required columns. Lines without text are
    left out. In a column `path`, `./0.png` becomes `0.png`. Returns the names of the columns, and
    the lines.

    Raises:
        UserError: The file cannot be read, has another encoding, lacks a required column, has a
            column twice, or a line is longer or shorter than the heading; the message has a remedy.
    """
    text = _decoded(path)
    heading = text.partition("\n")[0]

    def fits(separator: str) -> tuple[bool, int]:
        names = {cell.strip().strip('"') for cell in heading.split(separator)}
        return names.issuperset(required), heading.count(separator)

    separator = max((",", ";", "\t"), key=fits)
    columns, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            cells = [_as_meant(cell.strip()) for cell in cells]
            where = f"{path.name}, line {reader.line_num}"
            if not any(cells):
                continue
            if not columns:
                columns = cells
                _check_columns(path, columns, required)
            elif len(cells) != len(columns):
                raise UserError(
                    f"{where}: {len(cells)} cells, but {len(columns)} columns. Keep empty cells, "
                    "and put texts that contain the separator in quotes."
                )
            else:
                lines.append(Line(where, dict(zip(columns, cells, strict=True))))
                if "path" in columns:
                    lines[-1].cells["path"] = os.path.normpath(lines[-1].cells["path"])
    except csv.Error as error:
        raise UserError(f"{path.name}, line {reader.line_num}: {error}.") from None
    _check_columns(path, columns, required)
    return columns, lines


def _as_meant(cell: str) -> str:
    """Removes the apostrophe that keeps a spreadsheet from reading a text as a formula."""
    return cell[1:] if re.match("'[=+@-]", cell) else cell


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Give a CSV that you can read.") from None
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path.name}, line {line}: not UTF-8. In Excel, save it as «CSV UTF-8»."
        ) from None


def _check_columns(path: Path, columns: list[str], required: tuple[str, ...]) -> None:
    for name in required:
        if name not in columns:
            found = ", ".join(columns) or "none"
            raise UserError(f"{path.name}, line 1: no column '{name}'. The columns are: {found}.")
    twice = {name for name in columns if name and columns.count(name) > 1}
    if twice:
        raise UserError(f"{path.name}, line 1: column '{min(twice)}' occurs twice. Remove one.")
