"""The rules of a tag, which give its values a meaning, and their application."""

import dataclasses
import re
from typing import NamedTuple

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tags.elements import DAMAGED, Element, Values

MAPPED = "mapped"
UNMAPPED = "unmapped"
EMPTY = "empty"
MISSING = "missing"
IGNORED = "ignored"
STATES = (MAPPED, UNMAPPED, EMPTY, MISSING, IGNORED)
# The state to report if neither an element nor its fallbacks map: the most informative one.
_TELLING = (UNMAPPED, IGNORED, EMPTY, MISSING)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_AGE = re.compile(r"(\d{1,3})([dwmy])", re.ASCII)
_YEARS = {"d": 1 / 365.25, "w": 7 / 365.25, "m": 1 / 12, "y": 1.0}

#: Labels of a tag or a value.
Labels = tuple[str, ...]


class SchemaError(UserError):
    """A mistake in a tag schema; the message names the file, the line and the remedy."""


class Bin(NamedTuple):
    """Labels of the numbers from the previous bound to this one (excluded); None: no bound."""

    below: float | None
    labels: Labels


@dataclasses.dataclass(frozen=True)
class Tag:
    """One DICOM element with the meaning of its values."""

    name: str  # name for reports, e.g. "study"
    elements: tuple[Element, ...]  # the preferred element first, then its fallbacks
    labels: Labels  # the labels of this tag, in the order of y
    ignore: frozenset[str]  # normalised values that count as absent
    exact: dict[str, tuple[str, Labels]]  # normalised value to the table's spelling and labels
    bins: tuple[Bin, ...]  # ascending; the first bin with a bound above the number wins
    patterns: tuple[tuple[re.Pattern[str], Labels], ...]  # in order; the first match wins
    all_values: bool  # whether every value of an element counts, not just the first that maps
    on_missing: Labels | None  # labels without a value; None: the tag is absent from y
    on_unmapped: Labels | None  # labels if no value is mapped; None: likewise
    unmapped_is_error: bool  # whether an unmapped value is an error


class Match(NamedTuple):
    """The result of a tag's rules for its values."""

    state: str  # one of `STATES`
    raw: str  # the mapped value, or all unmapped ones, joined by a backslash
    labels: Labels | None = None  # None if nothing is known
    untidy: bool = False  # whether the raw value differs from the clean form in case or spacing


def normalise(value: str) -> str:
    """Strips, collapses white space and folds case."""
    return " ".join(value.split()).casefold()


def match_tag(tag: Tag, values: Values) -> Match:
    """Tries the element and then its fallbacks; SchemaError if the schema demands it.

    The message does not quote the value, which may identify the patient.
    """
    failures = []
    for element in tag.elements:
        match = _match_values(tag, values.get(element.spec))
        if match.state == MAPPED:
            return match
        failures.append((match, element.spec))
    failure, spec = min(failures, key=lambda pair: _TELLING.index(pair[0].state))
    if failure.state != UNMAPPED:
        return failure._replace(labels=tag.on_missing)
    if tag.unmapped_is_error:
        raise SchemaError(
            f"tag '{tag.name}': a value of {spec} is unmapped, and the schema has "
            'on_unmapped = "error"; map the value, or give on_unmapped labels'
        )
    return failure._replace(labels=tag.on_unmapped)


def to_number(clean: str) -> float | None:
    """A normalised decimal number, or an age such as "034y" in years; None for anything else."""
    if _NUMBER.fullmatch(clean):
        return float(clean)
    age = _AGE.fullmatch(clean)
    return int(age[1]) * _YEARS[age[2]] if age else None


def _match_values(tag: Tag, values: tuple[str, ...] | None) -> Match:
    if values is None:
        return Match(MISSING, "")
    candidates = [value for value in values if normalise(value)]
    if not candidates:
        return Match(EMPTY, "")
    wanted = [value for value in candidates if normalise(value) not in tag.ignore]
    if not wanted:
        return Match(IGNORED, "\\".join(candidates))
    matches = [_match_value(tag, value) for value in wanted]
    mapped = [match for match in matches if match.state == MAPPED]
    if tag.all_values and len(mapped) == len(matches):
        labels = tuple(dict.fromkeys(label for match in mapped for label in match.labels))
        return Match(MAPPED, "\\".join(wanted), labels, any(match.untidy for match in mapped))
    if mapped and not tag.all_values:
        return mapped[0]
    return Match(UNMAPPED, "\\".join(match.raw for match in matches if match.state == UNMAPPED))


def _match_value(tag: Tag, raw: str) -> Match:
    clean = normalise(raw)
    if clean in tag.exact:
        spelling, labels = tag.exact[clean]
        return Match(MAPPED, raw, labels, raw != spelling)
    # Numbers and patterns have no spelling to compare with; only spacing can be wrong.
    untidy = raw != " ".join(raw.split())
    number = to_number(clean) if tag.bins else None
    if number is not None:
        for below, labels in tag.bins:
            if below is None or number < below:
                return Match(MAPPED, raw, labels, untidy)
    # A pattern such as "." must not match a damaged value.
    if clean != DAMAGED:
        for pattern, labels in tag.patterns:
            if pattern.search(clean):
                return Match(MAPPED, raw, labels, untidy)
    return Match(UNMAPPED, raw)
