"""A CSV of tag values for files whose headers were cleaned, or that never had any."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_tables import read_table

# Columns of the labels of heads, which may stand in the same CSV.
_OTHERS = {"path", "patient", "label", "mask", "split", "frame"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line."""

    where: str  # file and line, for messages
    values: dict[str, tuple[str, ...]]  # element to its values; an empty cell is not here
    patient: str | None  # of the column `patient`, or None


def read_tag_table(path: Path, elements: Sequence[str]) -> dict[str, Entry]:
    """Reads the CSV: path (POSIX) to entry.

    It has a column `path` (relative to the data folder), columns named by elements of the tag
    schema, optional `patient`; the columns of a head's labels are passed over. What is unreadable,
    unknown or twice there gives a UserError with file and line.
    """
    columns, lines = read_table(path, "path")
    if unknown := [name for name in columns if name not in _OTHERS and name not in elements]:
        raise UserError(
            f"--labels {path}: {', '.join(unknown)}: no element of the tag schema. Elements are: "
            f"{', '.join(elements)}."
        )
    entries: dict[str, Entry] = {}
    for line in lines:
        name = line.cells["path"]
        if name in entries:
            raise UserError(f"{line.where}: this path stands in {entries[name].where} already.")
        values = {
            element: tuple(line.cells[element].split("\\"))
            for element in elements
            if line.cells.get(element)
        }
        entries[name] = Entry(line.where, values, line.cells.get("patient") or None)
    if not entries:
        raise UserError(f"--labels {path}: holds no line below the column names.")
    return entries
