"""Encodes DICOM tags as a multi-hot vector and a presence mask, by a schema file."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from pydicom import Dataset

from tf_dicom_ce.dicom.header import SECONDARY_CAPTURE
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.tags.elements import Values
from tf_dicom_ce.tags.rules import SchemaError, Tag, match_tag
from tf_dicom_ce.tags.schema_file import read_schema_file, schema_path

#: Files that are read if they are asked for, by their SOP classes.
KINDS = {"secondary-capture": SECONDARY_CAPTURE}
# Raise it when reading or encoding changes its result for the same schema and header.
_RULES_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The tags of one file."""

    y: np.ndarray  # (L,) float32, multi-hot; zero over the span of an unknown tag
    # (L,) bool, True over the span of a tag that was found and mapped, even to no label, or that
    # gets labels from the schema in any case.
    present: np.ndarray
    # Tag name -> its state (`rules.STATES`) and raw value: the mapped value, or all unmapped ones
    # joined by a backslash.
    states: dict[str, tuple[str, str]]
    # Names of the mapped tags whose raw value differs from the clean form in case or spacing.
    untidy: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TagSchema:
    """The elements to read, and the labels of their values."""

    name: str  # the schema's name
    sop_classes: frozenset[str]  # UIDs of the SOP classes whose files are read
    tags: tuple[Tag, ...]  # the tags, in the order of y
    # SHA-256 (hex) over all that can change an encoding: the content of TOML and CSV, regardless of
    # layout, and the version of the rules.
    fingerprint: str

    @classmethod
    def load(cls, name_or_path: str | Path) -> "TagSchema":
        """Loads a schema: "ultrasound", "ultrasound-paper", or the path of a TOML file.

        Raises SchemaError, with file and line, if the schema does not exist or has a mistake.
        """
        name, sop_classes, tags = read_schema_file(schema_path(name_or_path))
        return cls(name, sop_classes, tags, _fingerprint(sop_classes, tags))

    def including(self, kinds: Collection[str]) -> "TagSchema":
        """This schema with other files that are read: those of "secondary-capture".

        Raises:
            SchemaError: There is no such kind.
        """
        if other := set(kinds) - set(KINDS):
            raise SchemaError(f"--include {min(other)}: choose {', '.join(KINDS)}")
        more = frozenset().union(*(KINDS[kind] for kind in kinds))
        return dataclasses.replace(self, sop_classes=self.sop_classes | more)

    def of_classes(self, sop_classes: Iterable[str]) -> "TagSchema":
        """The same tags of files of other SOP classes, UIDs."""
        classes = frozenset(sop_classes)
        return TagSchema(self.name, classes, self.tags, _fingerprint(classes, self.tags))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of y; unique."""
        return tuple(label for tag in self.tags for label in tag.labels)

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that are read, in canonical spelling, each once."""
        return tuple(dict.fromkeys(element.spec for tag in self.tags for element in tag.elements))

    def read(self, header: Dataset) -> Values:
        """Reads the values of the `elements`, and no other element of the header."""
        with quiet():
            return {e.spec: e.read(header) for tag in self.tags for e in tag.elements}

    def encode(self, values: Values) -> Encoding:
        """Encodes the values of `read`; the caller may have corrected some.

        An element that is not among the keys is absent. A damaged value counts as unmapped. An
        unmapped value raises a SchemaError if the schema has `on_unmapped = "error"`.
        """
        y: list[float] = []
        present: list[bool] = []
        states: dict[str, tuple[str, str]] = {}
        untidy: list[str] = []
        for tag in self.tags:
            match = match_tag(tag, values)
            y += [float(label in (match.labels or ())) for label in tag.labels]
            present += [match.labels is not None] * len(tag.labels)
            states[tag.name] = (match.state, match.raw)
            if match.untidy:
                untidy.append(tag.name)
        return Encoding(np.array(y, np.float32), np.array(present, np.bool_), states, tuple(untidy))


def _fingerprint(sop_classes: frozenset[str], tags: tuple[Tag, ...]) -> str:
    content = [
        {
            **vars(tag),
            "elements": [element.spec for element in tag.elements],
            "ignore": sorted(tag.ignore),
            "exact": sorted(tag.exact.items()),
            "patterns": [(pattern.pattern, labels) for pattern, labels in tag.patterns],
        }
        for tag in tags
    ]
    # Without the class that joined the defaults later, so that earlier runs continue.
    classes = sorted(sop_classes - {"1.2.840.10008.5.1.4.1.1.6.2"})
    text = json.dumps([_RULES_VERSION, classes, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
