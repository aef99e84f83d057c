"""Reads the CSV table of exact values that a tag schema names; errors name file and line."""

import csv
import io
from pathlib import Path

from tf_dicom_ce.dicom.rules import SchemaError, normalise

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
    exact: dict[str, tuple[str, tuple[str, ...]]] = {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SchemaError(f"{path.name}, line {line}: not UTF-8") from error
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if reader.fieldnames != _COLUMNS:
                raise SchemaError(f"{path.name}, line 1: columns must be {','.join(_COLUMNS)}")
            for row in reader:
                where = f"{path.name}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise SchemaError(f"{where}: {len(_COLUMNS)} columns expected")
                key = normalise(row["value"])
                if not key or key in exact:
                    fault = "empty" if not key else "duplicate"
                    raise SchemaError(f"{where}: {fault} value '{row['value']}'")
                cell = row["corrected"] if corrected and row["corrected"] else row["labels"]
                found = tuple(part.strip() for part in cell.split(",") if part.strip())
                for label in found:
                    if label not in labels:
                        raise SchemaError(
                            f"{where}: unknown label '{label}' for tag '{name}'; "
                            f"labels are {', '.join(labels)}"
                        )
                exact[key] = (row["value"], found)
        except csv.Error as error:
            # The reader has not counted the line it stumbled over.
            raise SchemaError(f"{path.name}, line {reader.line_num + 1}: {error}") from error
    return exact
