"""Hints for the author of a tag schema: meanings of unmapped values, and likely mistakes."""

import collections
import math
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from rapidfuzz import fuzz

from tf_dicom_ce.tags.rules import Tag, normalise

_SIDES = {
    *("left", "right", "lt", "rt", "l", "r"),
    *("bilateral", "unilateral", "both", "either", "side", "sides"),
}
# Words of any examination, which say nothing about its subject.
_COMMON = {
    *("ultrasound", "sonography", "sonogram", "echography", "doppler", "duplex", "color", "colour"),
    *("scan", "exam", "examination", "study", "procedure", "guided", "guidance"),
    *("complete", "limited", "routine", "not", "otherwise", "specified"),
    *("and", "with", "without", "for", "the"),
}
_SHORTEST = 3
# "thyriod" is 0.86 like "thyroid", "parathyroid" 0.78.
_TYPO = 0.8
_ABBREVIATION = 0.9
# A word that names a label weighs more.
_LABEL_WEIGHT = 2
# "LIVER US W DOPPLER" is 0.74 like "US BIOPSY LIVER FOCAL"; "US BIOPSY BREAST" 0.31 like
# "US BIOPSY NOT OTHERWISE SPECIFIED".
_CLOSE = 0.6


class Suggestion(NamedTuple):
    """A known description that is close to an unmapped value."""

    description: str  # as spelled in the schema
    labels: tuple[str, ...]  # its labels
    score: float  # 0: nothing in common; 1: equal except for words without information


def closest(value: str, tag: Tag) -> Suggestion | None:
    """Finds the exact value of a tag that is closest to an unmapped value; None if none is close.

    Words are compared in any order, allowing for typing errors and abbreviations. Rare words of the
    schema count more. The result holds no part of the unmapped value.
    """
    descriptions = {spelling: _telling_words(spelling) for spelling, _ in tag.exact.values()}
    weights = _weights(descriptions.values(), tag.labels)
    alike = {word: _alike(word, weights) for word in _telling_words(value)}
    # A word that is not in the schema may change the meaning completely.
    unknown = math.log(len(descriptions) + 1)
    scores = {s: _score(alike, known, weights, unknown) for s, known in descriptions.items()}
    best = max(scores, key=scores.get, default="")
    if not best or scores[best] < _CLOSE:
        return None
    return Suggestion(best, tag.exact[normalise(best)][1], scores[best])


def suspicious(tag: Tag) -> tuple[str, ...]:
    """Describes contradictions and likely mistakes in a tag's rules, one sentence each."""
    return (*_contradictions(tag), *_named_but_not_mapped(tag), *_patterns_that_never_win(tag))


def _contradictions(tag: Tag) -> Iterator[str]:
    alike: dict[tuple[str, ...], dict[frozenset[str], str]] = collections.defaultdict(dict)
    for spelling, labels in tag.exact.values():
        key = tuple(sorted(word for word in _words(spelling) if word not in _SIDES))
        alike[key].setdefault(frozenset(labels), f"'{spelling}' {_listed(labels)}")
    for meanings in alike.values():
        if len(meanings) > 1:
            yield (
                f"{tag.name}: {' and '.join(meanings.values())} differ only in side, punctuation "
                "or order of words, yet in their labels"
            )


def _named_but_not_mapped(tag: Tag) -> Iterator[str]:
    for spelling, labels in tag.exact.values():
        text = f" {' '.join(_words(spelling))} "
        for label in tag.labels:
            name = " ".join(_words(label))
            named = f" {name} " in text or f" {name}s " in text
            # As a word, "curvilinear" contains "linear".
            if named and labels and not any(name in normalise(other) for other in labels):
                said = f"names {label}, but its labels are {_listed(labels)}"
                yield f"{tag.name}: '{spelling}' {said}"


def _patterns_that_never_win(tag: Tag) -> Iterator[str]:
    seen: set[str] = set()
    for pattern, labels in tag.patterns:
        if pattern.pattern in seen:
            said = f"for {_listed(labels)} never wins, because an earlier one is equal"
            yield f"{tag.name}: pattern '{pattern.pattern}' {said}"
        seen.add(pattern.pattern)


def _listed(labels: tuple[str, ...]) -> str:
    return f"({', '.join(labels) or 'none'})"


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", normalise(text))


def _telling_words(text: str) -> list[str]:
    """Each word once, without numbers: C5-1 is not a typing error of C6-1."""
    words = (w for w in _words(text) if len(w) >= _SHORTEST and w.isalpha())
    return list(dict.fromkeys(word for word in words if word not in _SIDES | _COMMON))


def _weights(descriptions: Collection[list[str]], labels: tuple[str, ...]) -> dict[str, float]:
    """Every word of the schema's descriptions, with a weight that is higher for rare words."""
    counts = collections.Counter(word for words in descriptions for word in words)
    names = {word for label in labels for word in _words(label)}
    return {
        word: math.log((len(descriptions) + 1) / (n + 1)) * (_LABEL_WEIGHT if word in names else 1)
        for word, n in counts.items()
    }


def _alike(word: str, vocabulary: Iterable[str]) -> dict[str, float]:
    """The words of the schema that `word` may stand for, with their similarity."""
    found = {}
    for known in vocabulary:
        similarity = fuzz.ratio(word, known) / 100
        if similarity < 1 and (known.startswith(word) or word.startswith(known)):
            similarity = _ABBREVIATION
        # Typing errors rarely change the first letter; "renal" is not "adrenal".
        if similarity >= _TYPO and known[0] == word[0]:
            found[known] = similarity
    return found


def _score(
    alike: dict[str, dict[str, float]], known: list[str], weights: dict[str, float], unknown: float
) -> float:
    """Dice coefficient of two sets of weighted words that may be only similar."""
    common = 0.0
    total = sum(weights[word] for word in known)
    for word, similarities in alike.items():
        match = max(known, key=lambda k: similarities.get(k, 0.0), default="")
        similarity = similarities.get(match, 0.0)
        weight = weights[match] if similarity else weights.get(word, unknown)
        common += similarity * weight
        total += weight
    return 2 * common / total if total else 0.0
