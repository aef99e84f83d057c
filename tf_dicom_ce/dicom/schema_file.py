"""Reads and validates the TOML and CSV files of a tag schema; errors name file and line."""

import csv
import dataclasses
import io
import re
import tomllib
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from tf_dicom_ce.errors import UserError

_TOP_KEYS = {"name", "tag"}
_TAG_KEYS = {
    *("name", "element", "fallback", "labels", "ignore"),
    *("map", "map_csv", "corrected", "patterns"),
}
_PATTERN_KEYS = {"regex", "labels"}
_CSV_COLUMNS = ["value", "labels", "corrected"]


class SchemaError(UserError):
    """A mistake in a tag schema; the message names the file, the line and the remedy."""


@dataclasses.dataclass(frozen=True)
class Tag:
    """One DICOM element and what its values mean.

    Attributes:
        name: Name for reports, e.g. "study".
        elements: Keywords, the preferred element first, then its fallbacks.
        labels: The labels of this tag, in the order of y.
        ignore: Normalised values that count as absent.
        exact: Normalised value to the table's own spelling and its labels.
        patterns: Ordered; the first that is found in the normalised value wins.
    """

    name: str
    elements: tuple[str, ...]
    labels: tuple[str, ...]
    ignore: frozenset[str]
    exact: dict[str, tuple[str, tuple[str, ...]]]
    patterns: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]


def normalise(value: str) -> str:
    """Strips, collapses white space and folds case."""
    return " ".join(value.split()).casefold()


def read_schema_file(path: Path) -> tuple[str, tuple[Tag, ...]]:
    """Reads a TOML schema and the CSV tables it names.

    Args:
        path: The TOML file; `map_csv` is relative to its folder.

    Returns:
        The schema's name and its tags.

    Raises:
        SchemaError: Anything that is not as the schema demands.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path.name}: cannot be read ({type(error).__name__})") from error
    return _SchemaFile(path, text).read()


class _SchemaFile:
    """A TOML file with its text at hand, since tomllib does not tell the lines of values."""

    def __init__(self, path: Path, text: str):
        self._path = path
        self._lines = text.splitlines()
        self._text = text
        headers = [i for i, s in enumerate(self._lines) if re.match(r"\s*\[\[\s*tag\s*]]", s)]
        self._starts = [*headers, len(self._lines)]

    def read(self) -> tuple[str, tuple[Tag, ...]]:
        try:
            content = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            # Without a line tomllib means the end of the document.
            where = int(line.group(1)) if line else max(len(self._lines), 1)
            raise SchemaError(f"{self._path.name}, line {where}: {error}") from error
        for key in content.keys() - _TOP_KEYS:
            self._fail(None, f"unknown key '{key}'; keys are {_listed(_TOP_KEYS)}", key)
        self._expect(None, content, "name", str)
        if not isinstance(content.get("tag"), list) or not content["tag"]:
            self._fail(None, "no [[tag]]; a schema has at least one", "tag")
        tags = tuple(self._read_tag(i, table) for i, table in enumerate(content["tag"]))
        self._check_unique(tags)
        return content["name"], tags

    def _read_tag(self, index: int, table: dict[str, Any]) -> Tag:
        for key in table.keys() - _TAG_KEYS:
            self._fail(index, f"unknown key '{key}'; keys are {_listed(_TAG_KEYS)}", key)
        name = self._expect(index, table, "name", str)
        labels = self._strings(index, table, "labels")
        if not labels:
            self._fail(index, f"tag '{name}' has no labels", "labels")
        fallback = self._strings(index, table, "fallback")
        elements = (self._expect(index, table, "element", str), *fallback)
        for keyword in elements:
            if tag_for_keyword(keyword) is None:
                self._fail(
                    index, f"unknown element '{keyword}'; use a keyword of PS3.6", _quoted(keyword)
                )
        return Tag(
            name,
            elements,
            labels,
            frozenset(normalise(v) for v in self._strings(index, table, "ignore")),
            self._read_exact(index, table, name, labels),
            self._read_patterns(index, table, name, labels),
        )

    def _read_exact(
        self, index: int, table: dict[str, Any], name: str, labels: tuple[str, ...]
    ) -> dict[str, tuple[str, tuple[str, ...]]]:
        exact: dict[str, tuple[str, tuple[str, ...]]] = {}
        corrected = self._expect(index, table, "corrected", bool, False)
        csv_name = self._expect(index, table, "map_csv", str, "")
        if csv_name:
            path = self._path.parent / csv_name
            if not path.is_file():
                self._fail(index, f"no file '{csv_name}' beside this one", _quoted(csv_name))
            exact |= _read_csv(path, labels, name, corrected)
        elif "corrected" in table:
            self._fail(index, "'corrected' needs 'map_csv'", "corrected")
        for value, mapped in self._expect(index, table, "map", dict, {}).items():
            found = self._labels(index, mapped, f"map of tag '{name}'", labels, value)
            exact[normalise(value)] = (value, found)
        return exact

    def _read_patterns(
        self, index: int, table: dict[str, Any], name: str, labels: tuple[str, ...]
    ) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
        patterns = []
        for entry in self._expect(index, table, "patterns", list, []):
            if not isinstance(entry, dict) or entry.keys() != _PATTERN_KEYS:
                odd = next(iter(entry.keys() - _PATTERN_KEYS), "") if entry else ""
                self._fail(index, "a pattern has exactly 'regex' and 'labels'", odd or "patterns")
            regex = entry["regex"]
            try:
                compiled = re.compile(regex, re.IGNORECASE)
            except (re.error, TypeError) as error:
                self._fail(index, f"bad regex in tag '{name}': {error}", str(regex))
            found = self._labels(index, entry["labels"], f"patterns of tag '{name}'", labels, regex)
            patterns.append((compiled, found))
        return tuple(patterns)

    def _labels(
        self, index: int, mapped: Any, where: str, labels: tuple[str, ...], entry: str
    ) -> tuple[str, ...]:
        if not isinstance(mapped, list):
            self._fail(index, f"the labels of '{entry}' in {where} must be a list", entry)
        for label in mapped:
            if label not in labels:
                known = ", ".join(labels)
                self._fail(index, f"unknown label '{label}' in {where}; labels are {known}", entry)
        return tuple(mapped)

    def _check_unique(self, tags: tuple[Tag, ...]) -> None:
        seen: set[str] = set()
        for index, tag in enumerate(tags):
            for label in tag.labels:
                if label in seen:
                    self._fail(index, f"duplicate label '{label}'; labels are unique", "labels")
                seen.add(label)
            if any(tag.name == other.name for other in tags[:index]):
                self._fail(index, f"duplicate tag '{tag.name}'", _quoted(tag.name))

    def _strings(self, index: int, table: dict[str, Any], key: str) -> tuple[str, ...]:
        values = self._expect(index, table, key, list, [])
        if not all(isinstance(v, str) for v in values):
            self._fail(index, f"'{key}' must be a list of strings", key)
        return tuple(values)

    def _expect(
        self, index: int | None, table: dict[str, Any], key: str, kind: type, default: Any = None
    ) -> Any:
        value = table.get(key, default)
        if not isinstance(value, kind):
            said = "is missing" if value is None else f"must be a {kind.__name__}"
            self._fail(index, f"'{key}' {said}", key)
        return value

    def _fail(self, index: int | None, message: str, needle: str) -> None:
        """Raises with the first line that holds `needle`, in the tag's block or above them all."""
        bounds = (0, *self._starts)
        block = 0 if index is None else index + 1
        # Tags written as inline tables have no block of their own.
        start, stop = bounds[block : block + 2] if block + 1 < len(bounds) else (0, bounds[-1])
        line = next((i for i in range(start, stop) if needle in self._lines[i]), start)
        raise SchemaError(f"{self._path.name}, line {line + 1}: {message}")


def _read_csv(
    path: Path, labels: tuple[str, ...], name: str, corrected: bool
) -> dict[str, tuple[str, tuple[str, ...]]]:
    exact: dict[str, tuple[str, tuple[str, ...]]] = {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SchemaError(f"{path.name}, line {line}: not UTF-8") from error
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if reader.fieldnames != _CSV_COLUMNS:
                raise SchemaError(f"{path.name}, line 1: columns must be {','.join(_CSV_COLUMNS)}")
            for row in reader:
                where = f"{path.name}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise SchemaError(f"{where}: {len(_CSV_COLUMNS)} columns expected")
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


def _quoted(value: str) -> str:
    """A string as TOML usually spells it, to find its line."""
    return f'"{value}"'


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys))
