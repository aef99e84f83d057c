"""Reads the CSV table of exact values that a tag schema names; errors name file and line."""

from pathlib import Path

from tf_dicom_ce.dicom.rules import SchemaError, normalise
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_tables import read_table

_COLUMNS = ["value", "labels", "corrected"]


def read_csv(
    path: Path, labels: tuple[str, ...], name: str, corrected: bool
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Reads a table of exact values.

    Args:
        path: The table.
        labels: The labels that may occur.
        name: The tag's name, for messages.
        corrected: Takes the column `corrected` where it is filled in.

    Returns:
        Normalised value to its spelling and its labels.

    Raises:
        SchemaError: A mistake in the table.
    """
    try:
        columns, lines = read_table(path, "value", "labels")
    except UserError as error:
        raise SchemaError(str(error)) from None
    unknown = [column for column in columns if column not in _COLUMNS]
    if unknown:
        raise SchemaError(
            f"{path.name}, line 1: unknown columns {', '.join(unknown)}; there are "
            f"{', '.join(_COLUMNS)}"
        )
    exact: dict[str, tuple[str, tuple[str, ...]]] = {}
    for line in lines:
        value, key = line.cells["value"], normalise(line.cells["value"])
        if not key or key in exact:
            fault = "empty" if not key else "duplicate"
            raise SchemaError(f"{line.where}: {fault} value '{value}'")
        cell = (line.cells.get("corrected") if corrected else "") or line.cells["labels"]
        found = tuple(part.strip() for part in cell.split(",") if part.strip())
        for label in found:
            if label not in labels:
                raise SchemaError(
                    f"{line.where}: unknown label '{label}' for tag '{name}'; "
                    f"labels are {', '.join(labels)}"
                )
        exact[key] = (value, found)
    return exact
