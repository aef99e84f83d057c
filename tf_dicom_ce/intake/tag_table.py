"""A CSV of tag values for files whose headers were cleaned, or that never had any."""

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError

# Columns of the labels of heads, which may stand in the same CSV.
_OTHERS = {"path", "patient", "label", "mask", "split", "frame"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        where: File and line, for messages.
        values: Element to its values; an empty cell says nothing and is not here.
        patient: Of the column `patient`, or None.
    """

    where: str
    values: dict[str, tuple[str, ...]]
    patient: str | None


def read_tag_table(path: Path, elements: Sequence[str]) -> dict[str, Entry]:
    """Reads the CSV.

    Args:
        path: Column `path` (relative to the data folder), columns named by elements of the tag
            schema, optional `patient`; the columns of a head's labels are passed over.
        elements: The elements that the schema looks at.

    Returns:
        Path (POSIX) to entry.

    Raises:
        UserError: Unreadable, no or unknown columns, a path twice; file and line are named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            _check_columns(path, columns, elements)
            entries: dict[str, Entry] = {}
            for row in reader:
                where = f"{path.name}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(f"{where}: {len(columns)} columns expected.")
                name = os.path.normpath(row["path"])
                if name in entries:
                    raise UserError(f"{where}: this path stands in {entries[name].where} already.")
                values = {
                    element: tuple(row[element].split("\\"))
                    for element in elements
                    if row.get(element, "").strip()
                }
                entries[name] = Entry(where, values, row.get("patient", "").strip() or None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--labels {path}: cannot be read ({type(error).__name__}).") from None
    if not entries:
        raise UserError(f"--labels {path}: holds no line below the column names.")
    return entries


def _check_columns(path: Path, columns: Sequence[str], elements: Sequence[str]) -> None:
    if "path" not in columns:
        raise UserError(
            f"--labels {path}: no column 'path'. It has: {', '.join(columns) or 'none'}."
        )
    unknown = [name for name in columns if name not in _OTHERS and name not in elements]
    if unknown:
        raise UserError(
            f"--labels {path}: column '{unknown[0]}' is no element of the tag schema. "
            f"Elements are: {', '.join(elements)}."
        )
