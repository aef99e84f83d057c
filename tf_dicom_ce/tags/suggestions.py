"""Hints for whoever writes a tag schema: what an unmapped value may be, what looks like a slip."""

import collections
import dataclasses
import math
import re
from collections.abc import Collection, Iterable

from rapidfuzz import fuzz

from tf_dicom_ce.tags.rules import Tag, normalise

_SIDES = {
    *("left", "right", "lt", "rt", "l", "r"),
    *("bilateral", "unilateral", "both", "either", "side", "sides"),
}
# Words of any examination, which tell nothing about what is shown.
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
# A word that names a label weighs more, for it decides over a label.
_LABEL_WEIGHT = 2
# "LIVER US W DOPPLER" is 0.74 like "US BIOPSY LIVER FOCAL"; "US BIOPSY BREAST" 0.31 like
# "US BIOPSY NOT OTHERWISE SPECIFIED".
_CLOSE = 0.6


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A known description that is close to an unmapped value.

    Attributes:
        description: As spelled in the schema.
        labels: What it stands for.
        score: From 0, nothing in common, to 1, the same but for words that tell nothing.
    """

    description: str
    labels: tuple[str, ...]
    score: float


def closest(value: str, tag: Tag) -> Suggestion | None:
    """Finds the exact value of a tag that is closest to an unmapped one.

    Words are compared in any order, allowing for typing errors and abbreviations; the rarer a word
    in the schema, the more it counts.

    Args:
        value: As found in a file. The result holds no part of it.
        tag: The tag that it is a value of.

    Returns:
        The closest description, or None if none is close.
    """
    descriptions = {spelling: _telling_words(spelling) for spelling, _ in tag.exact.values()}
    weights = _weights(descriptions.values(), tag.labels)
    alike = {word: _alike(word, weights) for word in _telling_words(value)}
    # A word that the schema does not know may change everything.
    unknown = math.log(len(descriptions) + 1)
    best = None
    for spelling, known in descriptions.items():
        score = _score(alike, known, weights, unknown)
        if score >= _CLOSE and (best is None or score > best.score):
            best = Suggestion(spelling, tag.exact[normalise(spelling)][1], score)
    return best


def suspicious(tag: Tag) -> tuple[str, ...]:
    """Finds what contradicts itself in a schema, or looks like a slip.

    Args:
        tag: Its content alone is looked at, no data.

    Returns:
        Sentences; a human has to judge them.
    """
    return (*_contradictions(tag), *_named_but_not_mapped(tag), *_patterns_that_never_win(tag))


def _contradictions(tag: Tag) -> list[str]:
    alike: dict[tuple[str, ...], dict[frozenset[str], str]] = collections.defaultdict(dict)
    for spelling, labels in tag.exact.values():
        key = tuple(sorted(word for word in _words(spelling) if word not in _SIDES))
        alike[key].setdefault(frozenset(labels), f"'{spelling}' {_listed(labels)}")
    return [
        f"{tag.name}: {' and '.join(meanings.values())} differ only in side, punctuation or order "
        "of words, yet in their labels"
        for meanings in alike.values()
        if len(meanings) > 1
    ]


def _named_but_not_mapped(tag: Tag) -> list[str]:
    sentences = []
    for spelling, labels in tag.exact.values():
        text = f" {' '.join(_words(spelling))} "
        for label in tag.labels:
            name = " ".join(_words(label))
            named = f" {name} " in text or f" {name}s " in text
            # "curvilinear" is a kind of "linear" as far as words go.
            if named and labels and not any(name in normalise(other) for other in labels):
                sentences.append(
                    f"{tag.name}: '{spelling}' names {label}, but its labels are {_listed(labels)}"
                )
    return sentences


def _patterns_that_never_win(tag: Tag) -> list[str]:
    seen: set[str] = set()
    sentences = []
    for pattern, labels in tag.patterns:
        if pattern.pattern in seen:
            sentences.append(
                f"{tag.name}: pattern '{pattern.pattern}' for {_listed(labels)} never wins, "
                "for an earlier one is equal"
            )
        seen.add(pattern.pattern)
    return sentences


def _listed(labels: tuple[str, ...]) -> str:
    return f"({', '.join(labels) or 'none'})"


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", normalise(text))


def _telling_words(text: str) -> list[str]:
    """Each once; numbers and the like are left out, for a C5-1 is no typing error of a C6-1."""
    words = (w for w in _words(text) if len(w) >= _SHORTEST and w.isalpha())
    return list(dict.fromkeys(word for word in words if word not in _SIDES | _COMMON))


def _weights(descriptions: Collection[list[str]], labels: tuple[str, ...]) -> dict[str, float]:
    """Every word of the schema's descriptions, weighed by how few of them hold it."""
    counts = collections.Counter(word for words in descriptions for word in words)
    names = {word for label in labels for word in _words(label)}
    return {
        word: math.log((len(descriptions) + 1) / (n + 1)) * (_LABEL_WEIGHT if word in names else 1)
        for word, n in counts.items()
    }


def _alike(word: str, vocabulary: Iterable[str]) -> dict[str, float]:
    """The words of the schema that may be meant, and how sure that is."""
    found = {}
    for known in vocabulary:
        similarity = fuzz.ratio(word, known) / 100
        if similarity < 1 and (known.startswith(word) or word.startswith(known)):
            similarity = _ABBREVIATION
        # Typing errors seldom hit the first letter; "renal" is not "adrenal".
        if similarity >= _TYPO and known[0] == word[0]:
            found[known] = similarity
    return found


def _score(
    alike: dict[str, dict[str, float]], known: list[str], weights: dict[str, float], unknown: float
) -> float:
    """Dice coefficient of two sets of words that are more or less alike, and weighed."""
    common = 0.0
    total = sum(weights[word] for word in known)
    for word, similarities in alike.items():
        match = max(known, key=lambda k: similarities.get(k, 0.0), default="")
        similarity = similarities.get(match, 0.0)
        weight = weights[match] if similarity else weights.get(word, unknown)
        common += similarity * weight
        total += weight
    return 2 * common / total if total else 0.0
