"""Reads and validates the TOML file of a tag schema; errors name file and line."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from tf_dicom_ce.dicom.elements import Element, parse_element
from tf_dicom_ce.dicom.rules import Bin, Tag, normalise
from tf_dicom_ce.dicom.schema_csv import read_csv
from tf_dicom_ce.dicom.schema_toml import SchemaToml
from tf_dicom_ce.dicom.sop_classes import ULTRASOUND, sop_class_uid

_TOP_KEYS = {"name", "sop_classes", "tag"}
_TAG_KEYS = {
    *("name", "element", "fallback", "labels", "ignore", "all_values"),
    *("map", "map_csv", "corrected", "bins", "patterns", "on_missing", "on_unmapped"),
}
_PATTERN_KEYS = {"regex", "labels"}
_BIN_KEYS = {"below", "labels"}
_ABSENT = "absent"
_ERROR = "error"


@dataclasses.dataclass(frozen=True)
class SchemaFile:
    """The content of a schema file.

    Attributes:
        name: The schema's name.
        sop_classes: UIDs of the SOP classes whose files are read.
        tags: The tags, in the order of y.
    """

    name: str
    sop_classes: frozenset[str]
    tags: tuple[Tag, ...]


def read_schema_file(path: Path) -> SchemaFile:
    """Reads a TOML schema and the CSV tables it names.

    Args:
        path: The TOML file; `map_csv` is relative to its folder.

    Raises:
        SchemaError: Anything that is not as the schema demands.
    """
    toml = SchemaToml(path)
    content = toml.content
    toml.check_keys(None, content, _TOP_KEYS)
    name = toml.expect(None, content, "name", str)
    if not isinstance(content.get("tag"), list) or not content["tag"]:
        toml.fail(None, "no [[tag]]; a schema has at least one", "tag")
    tags = tuple(
        _TagReader(toml, path.parent, i, table).read() for i, table in enumerate(content["tag"])
    )
    _check_unique(toml, tags)
    return SchemaFile(name, _read_sop_classes(toml), tags)


def _read_sop_classes(toml: SchemaToml) -> frozenset[str]:
    if "sop_classes" not in toml.content:
        return ULTRASOUND
    names = toml.strings(None, toml.content, "sop_classes")
    if not names:
        toml.fail(None, "'sop_classes' is empty; leave it out for ultrasound", "sop_classes")
    uids = set()
    for name in names:
        try:
            uids.add(sop_class_uid(name))
        except ValueError as error:
            toml.fail(None, str(error), name)
    return frozenset(uids)


def _check_unique(toml: SchemaToml, tags: tuple[Tag, ...]) -> None:
    seen: set[str] = set()
    for index, tag in enumerate(tags):
        for label in tag.labels:
            if label in seen:
                toml.fail(index, f"duplicate label '{label}'; labels are unique", "labels")
            seen.add(label)
        if any(tag.name == other.name for other in tags[:index]):
            toml.fail(index, f"duplicate tag '{tag.name}'", tag.name)


class _TagReader:
    """Reads one [[tag]]."""

    def __init__(self, toml: SchemaToml, folder: Path, index: int, table: dict[str, Any]):
        self._toml = toml
        self._folder = folder
        self._index = index
        self._table = table
        toml.check_keys(index, table, _TAG_KEYS)
        self._name = self._expect("name", str)
        self._labels = toml.strings(index, table, "labels")

    def read(self) -> Tag:
        if not self._labels:
            self._fail(f"tag '{self._name}' has no labels", "labels")
        on_unmapped = self._read_policy("on_unmapped", (_ABSENT, _ERROR))
        on_missing = self._read_policy("on_missing", (_ABSENT,))
        return Tag(
            name=self._name,
            elements=self._read_elements(),
            labels=self._labels,
            ignore=frozenset(map(normalise, self._strings("ignore"))),
            exact=self._read_csv() | self._read_map(),
            bins=self._read_bins(),
            patterns=self._read_patterns(),
            all_values=self._expect("all_values", bool, False),
            on_missing=None if on_missing == _ABSENT else on_missing,
            on_unmapped=None if on_unmapped in (_ABSENT, _ERROR) else on_unmapped,
            unmapped_is_error=on_unmapped == _ERROR,
        )

    def _read_elements(self) -> tuple[Element, ...]:
        elements = []
        for spec in (self._expect("element", str), *self._strings("fallback")):
            try:
                elements.append(parse_element(spec))
            except ValueError as error:
                # A private creator's quotes may be escaped in the file.
                self._fail(str(error), spec.partition('"')[0])
        return tuple(elements)

    def _read_csv(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        corrected = self._expect("corrected", bool, False)
        csv_name = self._expect("map_csv", str, "")
        if not csv_name:
            if "corrected" in self._table:
                self._fail("'corrected' needs 'map_csv'", "corrected")
            return {}
        path = self._folder / csv_name
        if not path.is_file():
            self._fail(f"no file '{csv_name}' beside this one", csv_name)
        return read_csv(path, self._labels, self._name, corrected)

    def _read_map(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        exact: dict[str, tuple[str, tuple[str, ...]]] = {}
        for value, labels in self._expect("map", dict, {}).items():
            key = normalise(value)
            if not key or key in exact:
                fault = "duplicate" if key else "empty"
                self._fail(f"{fault} value '{value}' in map of tag '{self._name}'", value)
            found = self._check_labels(labels, f"'{value}' in map of tag '{self._name}'", value)
            exact[key] = (value, found)
        return exact

    def _read_bins(self) -> tuple[Bin, ...]:
        entries = self._expect("bins", list, [])
        bins: list[Bin] = []
        for nth, entry in enumerate(entries):
            where = f"bin {nth + 1} of tag '{self._name}'"
            if not isinstance(entry, dict) or entry.keys() | {"below"} != _BIN_KEYS:
                odd = _odd_key(entry, _BIN_KEYS) or "bins"
                self._fail(f"{where} must have 'labels', and at most 'below' besides", odd)
            below = entry.get("below")
            if below is None and nth + 1 < len(entries):
                self._fail(f"{where} has no 'below'; only the last one may go without", "bins")
            if below is not None:
                if type(below) not in (int, float) or not math.isfinite(below):
                    self._fail(f"'below' of {where} must be a number", "below", nth)
                if bins and below <= bins[-1].below:
                    said = f"'below' of {where} is {below}, not above the {bins[-1].below} before"
                    self._fail(f"{said} it; bounds ascend", "below", nth)
            labels = self._check_labels(entry["labels"], where, "bins")
            bins.append(Bin(below, labels))
        return tuple(bins)

    def _read_patterns(self) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
        patterns = []
        where = f"patterns of tag '{self._name}'"
        for entry in self._expect("patterns", list, []):
            if not isinstance(entry, dict) or entry.keys() != _PATTERN_KEYS:
                odd = _odd_key(entry, _PATTERN_KEYS) or "patterns"
                self._fail("a pattern has exactly 'regex' and 'labels'", odd)
            regex = entry["regex"]
            try:
                compiled = re.compile(regex, re.IGNORECASE)
            except (re.error, TypeError) as error:
                self._fail(f"bad regex in tag '{self._name}': {error}", str(regex))
            found = self._check_labels(entry["labels"], f"'{regex}' in {where}", regex)
            patterns.append((compiled, found))
        return tuple(patterns)

    def _read_policy(self, key: str, words: tuple[str, ...]) -> tuple[str, ...] | str:
        value = self._table.get(key, _ABSENT)
        if isinstance(value, list):
            return self._check_labels(value, f"'{key}' of tag '{self._name}'", key)
        if value not in words:
            known = " or ".join(f'"{word}"' for word in words)
            self._fail(f"'{key}' must be {known}, or a list of labels", key)
        return value

    def _check_labels(self, labels: Any, where: str, needle: str) -> tuple[str, ...]:
        if not isinstance(labels, list):
            self._fail(f"the labels of {where} must be a list", needle)
        for label in labels:
            if label not in self._labels:
                known = ", ".join(self._labels)
                self._fail(f"unknown label '{label}' for {where}; labels are {known}", needle)
        return tuple(labels)

    def _expect(self, key: str, kind: type, default: Any = None) -> Any:
        return self._toml.expect(self._index, self._table, key, kind, default)

    def _strings(self, key: str) -> tuple[str, ...]:
        return self._toml.strings(self._index, self._table, key)

    def _fail(self, message: str, needle: str, nth: int = 0) -> None:
        self._toml.fail(self._index, message, needle, nth)


def _odd_key(entry: Any, known: set[str]) -> str:
    """A key that does not belong into a table, to find its line; "" if there is none."""
    return next(iter(entry.keys() - known), "") if isinstance(entry, dict) else ""
