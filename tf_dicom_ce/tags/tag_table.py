"""Reads a CSV of tag values for files whose headers are cleaned, wrong or missing."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.user_tables import Line, read_table

# Columns of the labels of heads, which may be in the same CSV.
_OTHERS = {"path", "patient", "label", "mask", "split", "frame"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line."""

    where: str  # file and line, for messages
    values: dict[str, tuple[str, ...]]  # element -> its values, without empty cells
    patient: str | None  # of the column `patient`, or None


#: Columns of an audit's table (`auditing`): one line per file and tag, with a proposed value.
AUDIT_COLUMNS = (
    *("path", "tag", "value", "proposed", "probability_wrong", "probability_proposed"),
    *("judged_with", "accept"),
)
_ACCEPTED, _REJECTED = {"yes", "y", "true", "1", "x"}, {"no", "n", "false", "0", ""}


def read_tag_tables(paths: Sequence[Path], schema: TagSchema) -> dict[str, Entry]:
    """Reads several CSVs; later ones override earlier ones, element by element."""
    entries: dict[str, Entry] = {}
    for path in paths:
        for name, entry in read_tag_table(path, schema).items():
            before = entries.get(name, entry)
            values, patient = before.values | entry.values, entry.patient or before.patient
            entries[name] = Entry(entry.where, values, patient)
    return entries


def read_tag_table(path: Path, schema: TagSchema) -> dict[str, Entry]:
    """Reads the CSV; returns path (POSIX) -> entry.

    It has a column `path` (relative to the data folder), columns named by elements of the tag
    schema, and optionally `patient`; the columns of a head's labels are ignored. An audit's table
    is read as well: the lines with `accept` yes. An unreadable file, an unknown column or a
    duplicate path raises UserError with file and line.
    """
    columns, lines = read_table(path, "path")
    if "accept" in columns:
        return _accepted(path, lines, schema)
    elements = schema.elements
    if unknown := [name for name in columns if name not in _OTHERS and name not in elements]:
        raise UserError(
            f"--labels {path}: {', '.join(unknown)}: no element of the tag schema. Elements are: "
            f"{', '.join(elements)}."
        )
    entries: dict[str, Entry] = {}
    for line in lines:
        name = line.cells["path"]
        if name in entries:
            raise UserError(f"{line.where}: this path is in {entries[name].where} already.")
        values = {
            element: tuple(line.cells[element].split("\\"))
            for element in elements
            if line.cells.get(element)
        }
        entries[name] = Entry(line.where, values, line.cells.get("patient") or None)
    if not entries:
        raise UserError(f"--labels {path}: no lines below the column names.")
    return entries


def _accepted(path: Path, lines: Sequence[Line], schema: TagSchema) -> dict[str, Entry]:
    """The accepted proposals as values of the tags' preferred elements."""
    preferred = {tag.name: tag.elements[0].spec for tag in schema.tags}
    entries: dict[str, Entry] = {}
    for line in lines:
        tag, value, answer = (line.cells.get(name, "") for name in ("tag", "proposed", "accept"))
        if answer.casefold() in _REJECTED:
            continue
        if answer.casefold() not in _ACCEPTED:
            raise UserError(f"{line.where}: accept is '{answer}'. Write yes or no.")
        if tag not in preferred:
            raise UserError(
                f"{line.where}: the tag schema has no tag '{tag}'. Its tags are: "
                f"{', '.join(preferred)}."
            )
        if not value:
            raise UserError(f"{line.where}: accepts an empty value. Fill in the column proposed.")
        name, element = line.cells["path"], preferred[tag]
        entry = entries.setdefault(name, Entry(line.where, {}, None))
        if element in entry.values:
            raise UserError(f"{line.where}: the {tag} of this path has a line already.")
        entry.values[element] = tuple(value.split("\\"))
    if not entries:
        raise UserError(f"--labels {path}: no line is accepted. Write yes in the column accept.")
    return entries
