"""DICOM tags to a multi-hot vector and a presence mask, as a schema file says."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.schema_file import SchemaError, Tag, normalise, read_schema_file

__all__ = ["Encoding", "SchemaError", "Tag", "TagSchema"]

_SHIPPED = Path(__file__).parent
# Raised whenever `TagSchema.encode` gives another answer for the same schema and header.
_RULES_VERSION = 1

MAPPED = "mapped"
UNMAPPED = "unmapped"
EMPTY = "empty"
MISSING = "missing"
IGNORED = "ignored"
STATES = (MAPPED, UNMAPPED, EMPTY, MISSING, IGNORED)
# Which state to report when neither an element nor its fallbacks map: the most telling one.
_TELLING = (UNMAPPED, IGNORED, EMPTY, MISSING)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The tags of one file.

    Attributes:
        y: (L,) float32, multi-hot; zero over the span of a tag that did not map.
        present: (L,) bool, True over the span of a tag that was found and mapped, even if it
            was mapped to no label.
        states: Tag name to its state, one of `STATES`, and the raw value: the one that mapped,
            or all that did not, joined by a backslash.
        untidy: Names of the tags that mapped although the raw value differs from the clean form
            in case or spacing.
    """

    y: np.ndarray
    present: np.ndarray
    states: dict[str, tuple[str, str]]
    untidy: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TagSchema:
    """Which elements are read, and which labels their values stand for.

    Attributes:
        name: The schema's name.
        tags: The tags, in the order of y.
        fingerprint: SHA-256 (hex) over all that can change an encoding: the resolved content of
            TOML and CSV, whatever their layout, and the version of the rules.
    """

    name: str
    tags: tuple[Tag, ...]
    fingerprint: str

    @classmethod
    def load(cls, name_or_path: str | Path) -> "TagSchema":
        """Loads a shipped schema by name, or a schema file.

        Args:
            name_or_path: "ultrasound", "ultrasound-paper", or the path of a TOML file.

        Raises:
            SchemaError: No such schema, or a mistake in it; file and line are named.
        """
        shipped = {path.stem: path for path in _SHIPPED.glob("*.toml")}
        path = shipped.get(str(name_or_path), Path(name_or_path))
        if not path.is_file():
            raise SchemaError(
                f"no tag schema '{name_or_path}': give the path of a TOML file, "
                f"or one of {', '.join(sorted(shipped))}"
            )
        name, tags = read_schema_file(path)
        return cls(name, tags, _fingerprint(tags))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of y; unique."""
        return tuple(label for tag in self.tags for label in tag.labels)

    @property
    def size(self) -> int:
        """The length L of y."""
        return len(self.labels)

    @property
    def elements(self) -> tuple[str, ...]:
        """Keywords of the elements that are looked at, each once."""
        return tuple(dict.fromkeys(keyword for tag in self.tags for keyword in tag.elements))

    def encode(self, dataset: Dataset) -> Encoding:
        """Encodes the tags of one header.

        Args:
            dataset: A header; elements other than `elements` are not looked at.

        Returns:
            The encoding; a damaged element counts as unmapped.
        """
        y: list[float] = []
        present: list[bool] = []
        states: dict[str, tuple[str, str]] = {}
        untidy: list[str] = []
        for tag in self.tags:
            match = _match(tag, dataset)
            y += [float(label in match.labels) for label in tag.labels]
            present += [match.state == MAPPED] * len(tag.labels)
            states[tag.name] = (match.state, match.raw)
            if match.untidy:
                untidy.append(tag.name)
        return Encoding(np.array(y, np.float32), np.array(present, np.bool_), states, tuple(untidy))


@dataclasses.dataclass(frozen=True)
class _Match:
    state: str
    raw: str
    labels: tuple[str, ...] = ()
    untidy: bool = False


def _match(tag: Tag, dataset: Dataset) -> _Match:
    """Tries the element and then its fallbacks."""
    failures = []
    for keyword in tag.elements:
        match = _match_values(tag, _values(dataset, keyword))
        if match.state == MAPPED:
            return match
        failures.append(match)
    return min(failures, key=lambda match: _TELLING.index(match.state))


def _match_values(tag: Tag, values: list[str] | None) -> _Match:
    """Takes the first value that maps."""
    if values is None:
        return _Match(MISSING, "")
    candidates = [(v, normalise(v)) for v in values if normalise(v)]
    if not candidates:
        return _Match(EMPTY, "")
    wanted = [(raw, clean) for raw, clean in candidates if clean not in tag.ignore]
    if not wanted:
        return _Match(IGNORED, "\\".join(raw for raw, _ in candidates))
    for raw, clean in wanted:
        if clean in tag.exact:
            spelling, labels = tag.exact[clean]
            return _Match(MAPPED, raw, labels, raw != spelling)
        for pattern, labels in tag.patterns:
            if pattern.search(clean):
                # A pattern has no spelling to compare with, only spacing can be wrong.
                return _Match(MAPPED, raw, labels, raw != " ".join(raw.split()))
    return _Match(UNMAPPED, "\\".join(raw for raw, _ in wanted))


def _values(dataset: Dataset, keyword: str) -> list[str] | None:
    """All values of an element as text; None if it is absent."""
    if keyword not in dataset:
        return None
    with quiet():
        try:
            value = dataset[keyword].value
        # pydicom converts only now, and raises whatever comes to hand on a malformed element.
        except Exception:
            return ["(damaged)"]
    if value is None:
        return []
    return [str(v) for v in value] if isinstance(value, (MultiValue, list)) else [str(value)]


def _fingerprint(tags: tuple[Tag, ...]) -> str:
    content = [
        {
            "name": tag.name,
            "elements": tag.elements,
            "labels": tag.labels,
            "ignore": sorted(tag.ignore),
            "exact": sorted(tag.exact.items()),
            "patterns": [(pattern.pattern, labels) for pattern, labels in tag.patterns],
        }
        for tag in tags
    ]
    text = json.dumps([_RULES_VERSION, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
