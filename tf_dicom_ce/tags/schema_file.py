"""Reads and validates a tag schema, a TOML file and its CSV tables; errors name file and line."""

import dataclasses
import math
import re
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from pydicom.uid import UID, UID_dictionary

from tf_dicom_ce.dicom.header import ULTRASOUND
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tags.elements import Element, parse_element
from tf_dicom_ce.tags.rules import Bin, Labels, SchemaError, Tag, normalise
from tf_dicom_ce.user_tables import read_table

_SHIPPED = {path.stem: path for path in Path(__file__).parent.glob("*.toml")}
_TOP_KEYS = {"name", "extends", "sop_classes", "tag"}
_TAG_KEYS = {
    *("name", "element", "fallback", "labels", "ignore", "all_values"),
    *("map", "map_csv", "corrected", "bins", "patterns", "on_missing", "on_unmapped"),
}
# Keys of a tag of the schema that is extended.
_MORE_KEYS = ("ignore", "map", "patterns")
_PATTERN_KEYS = {"regex", "labels"}
_BIN_KEYS = {"below", "labels"}
_COLUMNS = ["value", "labels", "corrected"]
_ABSENT = "absent"
_ERROR = "error"


def schema_path(name_or_path: str | Path, folder: Path = Path()) -> Path:
    """The file of a shipped schema, or of a path relative to `folder`; SchemaError without one."""
    path = _SHIPPED.get(str(name_or_path), folder / name_or_path)
    if not path.is_file():
        raise SchemaError(
            f"no tag schema '{name_or_path}': give the path of a TOML file, "
            f"or one of {', '.join(sorted(_SHIPPED))}"
        )
    return path


def read_schema_file(
    path: Path, extending: frozenset[Path] = frozenset()
) -> tuple[str, frozenset[str], tuple[Tag, ...]]:
    """Reads a TOML schema and the files it names, relative to its folder.

    `extending` are the files that extend this one. Returns the schema's name, the UIDs of the SOP
    classes whose files are read, and the tags.
    """
    top = _Block(path, *_load(path), _TOP_KEYS)
    name = top.expect("name", str)
    sop_classes, found = ULTRASOUND, {}
    if extended := top.expect("extends", str, ""):
        extending |= {path.resolve()}
        try:
            below = schema_path(extended, path.parent)
        except SchemaError as error:
            top.fail(str(error), extended)
        if below.resolve() in extending:
            top.fail(f"'extends' leads by '{extended}' back to this file", extended)
        _, sop_classes, tags = read_schema_file(below, extending)
        found = {tag.name: tag for tag in tags}
    tables = top.table.get("tag", [] if extended else None)
    if not isinstance(tables, list) or not (tables or extended):
        top.fail("no [[tag]]; a schema has at least one", "tag")
    labels = {label for tag in found.values() for label in tag.labels}
    of_extended, own = dict(found), set()
    for index, table in enumerate(tables):
        block = _TagBlock(path, top.lines, table, _TAG_KEYS, index)
        before = of_extended.get(table.get("name"))
        tag = block.extend(before) if before else block.read()
        for label in () if before else tag.labels:
            if label in labels:
                block.fail(f"duplicate label '{label}'; labels are unique", "labels")
            labels.add(label)
        if tag.name in own:
            block.fail(f"duplicate tag '{tag.name}'", tag.name)
        own.add(tag.name)
        found[tag.name] = tag
    return name, _read_sop_classes(top, sop_classes), tuple(found.values())


def _load(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Lines and content of a TOML file."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        return lines, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        # Without a line tomllib means the end of the document.
        where = int(line.group(1)) if line else max(len(lines), 1)
        raise SchemaError(f"{path.name}, line {where}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path.name}: cannot be read ({type(error).__name__})") from error


def _read_sop_classes(top: "_Block", default: frozenset[str]) -> frozenset[str]:
    if "sop_classes" not in top.table:
        return default
    names = top.strings("sop_classes")
    if not names:
        top.fail("'sop_classes' is empty; leave it out for ultrasound", "sop_classes")
    uids = {name: _sop_class_uid(name) for name in names}
    for name, uid in uids.items():
        if uid is None:
            said = f"unknown SOP class '{name}'; write it as in 'CT Image Storage', or its UID"
            top.fail(said, name)
    return frozenset(uids.values())


def _sop_class_uid(name: str) -> str | None:
    """The UID of a SOP class, given by name, keyword or UID (which may be private)."""
    for uid, (title, kind, _, _, keyword) in UID_dictionary.items():
        if kind == "SOP Class" and name in (uid, title, keyword):
            return uid
    return name if re.fullmatch(r"\d+(\.\d+)+", name) and UID(name).is_private else None


class _Block:
    """One [[tag]] by its number, or the head of the file; names the line of a mistake.

    The line is found by a text search, because tomllib does not give the lines of values.
    """

    def __init__(self, path: Path, lines: list[str], table: dict, keys: set[str], index: int = -1):
        self.path, self.lines, self.table, self.index = path, lines, table, index
        for key in table.keys() - keys:
            self.fail(f"unknown key '{key}'; keys are {', '.join(sorted(keys))}", key)

    def expect(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of a key, which must have the type `kind`."""
        value = self.table.get(key, default)
        if not isinstance(value, kind):
            said = "is missing" if value is None else f"must be a {kind.__name__}"
            self.fail(f"'{key}' {said}", key)
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """The list of strings of a key; () without the key."""
        values = self.expect(key, list, [])
        if not all(isinstance(v, str) for v in values):
            self.fail(f"'{key}' must be a list of strings", key)
        return tuple(values)

    def fail(self, message: str, needle: str, nth: int = 0) -> NoReturn:
        """Raises SchemaError with the line of the block's nth `needle`, if possible in quotes."""
        headers = [i for i, s in enumerate(self.lines) if re.match(r"\s*\[\[\s*tag\s*]]", s)]
        bounds = (0, *headers, len(self.lines))
        block = bounds[self.index + 1 : self.index + 3]
        # Tags written as inline tables have no block of their own.
        start, stop = block if len(block) == 2 else (0, bounds[-1])
        for spelling in (f'"{needle}"', f"'{needle}'", needle):
            hits = [i for i in range(start, stop) for _ in range(self.lines[i].count(spelling))]
            if hits:
                break
        line = hits[min(nth, len(hits) - 1)] if hits else start
        raise SchemaError(f"{self.path.name}, line {line + 1}: {message}")


class _TagBlock(_Block):
    """One [[tag]]."""

    def read(self) -> Tag:
        self._name, self._labels = self.expect("name", str), self.strings("labels")
        if not self._labels:
            self.fail(f"tag '{self._name}' has no labels", "labels")
        on_unmapped = self._read_policy("on_unmapped", _ABSENT, _ERROR)
        on_missing = self._read_policy("on_missing", _ABSENT)
        return Tag(
            name=self._name,
            elements=self._read_elements(),
            labels=self._labels,
            ignore=frozenset(map(normalise, self.strings("ignore"))),
            exact=self._read_csv() | self._read_map(),
            bins=self._read_bins(),
            patterns=self._read_patterns(),
            all_values=self.expect("all_values", bool, False),
            on_missing=on_missing,
            on_unmapped=on_unmapped,
            unmapped_is_error=self.table.get("on_unmapped") == _ERROR,
        )

    def extend(self, tag: Tag) -> Tag:
        """The tag of the schema that is extended, with what this block adds to it."""
        if other := [key for key in self.table if key not in ("name", *_MORE_KEYS)]:
            said = f"'{other[0]}': the tag '{tag.name}' of the schema that is extended"
            self.fail(f"{said} can get {', '.join(_MORE_KEYS)} only", other[0])
        self._name, self._labels = tag.name, tag.labels
        return dataclasses.replace(
            tag,
            ignore=tag.ignore | frozenset(map(normalise, self.strings("ignore"))),
            exact=tag.exact | self._read_map(),
            patterns=(*self._read_patterns(), *tag.patterns),
        )

    def _read_elements(self) -> tuple[Element, ...]:
        elements = []
        for spec in (self.expect("element", str), *self.strings("fallback")):
            try:
                elements.append(parse_element(spec))
            except ValueError as error:
                # A private creator's quotes may be escaped in the file.
                self.fail(str(error), spec.partition('"')[0])
        return tuple(elements)

    def _read_csv(self) -> dict[str, tuple[str, Labels]]:
        """The table of exact values: normalised value -> its spelling and its labels."""
        corrected, csv_name = self.expect("corrected", bool, False), self.expect("map_csv", str, "")
        if not csv_name:
            if "corrected" in self.table:
                self.fail("'corrected' needs 'map_csv'", "corrected")
            return {}
        path = self.path.parent / csv_name
        if not path.is_file():
            self.fail(f"no file '{csv_name}' beside this one", csv_name)
        try:
            columns, lines = read_table(path, "value", "labels")
        except UserError as error:
            raise SchemaError(str(error)) from None
        if unknown := [column for column in columns if column not in _COLUMNS]:
            known = ", ".join(_COLUMNS)
            said = f"unknown columns {', '.join(unknown)}; there are {known}"
            raise SchemaError(f"{path.name}, line 1: {said}")
        exact: dict[str, tuple[str, Labels]] = {}
        for line in lines:
            value, key = line.cells["value"], normalise(line.cells["value"])
            if not key or key in exact:
                fault = "empty" if not key else "duplicate"
                raise SchemaError(f"{line.where}: {fault} value '{value}'")
            cell = (line.cells.get("corrected") if corrected else "") or line.cells["labels"]
            found = tuple(part.strip() for part in cell.split(",") if part.strip())
            for label in found:
                if label not in self._labels:
                    raise SchemaError(
                        f"{line.where}: unknown label '{label}' for tag '{self._name}'; "
                        f"labels are {', '.join(self._labels)}"
                    )
            exact[key] = (value, found)
        return exact

    def _read_map(self) -> dict[str, tuple[str, Labels]]:
        exact: dict[str, tuple[str, Labels]] = {}
        for value, labels in self.expect("map", dict, {}).items():
            key = normalise(value)
            if not key or key in exact:
                fault = "duplicate" if key else "empty"
                self.fail(f"{fault} value '{value}' in map of tag '{self._name}'", value)
            found = self._check_labels(labels, f"'{value}' in map of tag '{self._name}'", value)
            exact[key] = (value, found)
        return exact

    def _read_bins(self) -> tuple[Bin, ...]:
        entries = self.expect("bins", list, [])
        bins: list[Bin] = []
        for nth, entry in enumerate(entries):
            where = f"bin {nth + 1} of tag '{self._name}'"
            if not isinstance(entry, dict) or entry.keys() | {"below"} != _BIN_KEYS:
                odd = _odd_key(entry, _BIN_KEYS) or "bins"
                self.fail(f"{where} must have 'labels', and at most 'below' besides", odd)
            below = entry.get("below")
            if below is None and nth + 1 < len(entries):
                self.fail(f"{where} has no 'below'; only the last bin may lack it", "bins")
            if below is not None:
                if type(below) not in (int, float) or not math.isfinite(below):
                    self.fail(f"'below' of {where} must be a number", "below", nth)
                if bins and below <= bins[-1].below:
                    said = f"'below' of {where} is {below}, not above the {bins[-1].below} before"
                    self.fail(f"{said} it; bounds must ascend", "below", nth)
            labels = self._check_labels(entry["labels"], where, "bins")
            bins.append(Bin(below, labels))
        return tuple(bins)

    def _read_patterns(self) -> tuple[tuple[re.Pattern[str], Labels], ...]:
        patterns = []
        where = f"patterns of tag '{self._name}'"
        for entry in self.expect("patterns", list, []):
            if not isinstance(entry, dict) or entry.keys() != _PATTERN_KEYS:
                odd = _odd_key(entry, _PATTERN_KEYS) or "patterns"
                self.fail("a pattern has exactly 'regex' and 'labels'", odd)
            regex = entry["regex"]
            try:
                compiled = re.compile(regex, re.IGNORECASE)
            except (re.error, TypeError) as error:
                self.fail(f"bad regex in tag '{self._name}': {error}", str(regex))
            found = self._check_labels(entry["labels"], f"'{regex}' in {where}", regex)
            patterns.append((compiled, found))
        return tuple(patterns)

    def _read_policy(self, key: str, *words: str) -> Labels | None:
        value = self.table.get(key, _ABSENT)
        if isinstance(value, list):
            return self._check_labels(value, f"'{key}' of tag '{self._name}'", key)
        if value not in words:
            known = " or ".join(f'"{word}"' for word in words)
            self.fail(f"'{key}' must be {known}, or a list of labels", key)
        return None

    def _check_labels(self, labels: Any, where: str, needle: str) -> Labels:
        if not isinstance(labels, list):
            self.fail(f"the labels of {where} must be a list", needle)
        for label in labels:
            if label not in self._labels:
                known = ", ".join(self._labels)
                self.fail(f"unknown label '{label}' for {where}; labels are {known}", needle)
        return tuple(labels)


def _odd_key(entry: Any, known: set[str]) -> str:
    """An unknown key of a table, to find its line; "" if there is none."""
    return next(iter(entry.keys() - known), "") if isinstance(entry, dict) else ""
