"""Counts what an index found, to look at before training."""

import collections
import dataclasses
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import identity
from tf_dicom_ce.tags.rules import STATES, Tag
from tf_dicom_ce.tags.schema import Encoding, TagSchema
from tf_dicom_ce.tags.suggestions import closest, suspicious

_SUGGESTIONS = 300  # values to look at; more would take minutes in a folder of free text
_HARDLY_ANY = 0.05  # share of the images
_REMEDY = (
    "`tf-dicom-ce index` lists the values that were found. Map them (--tags, docs/tags.md), "
    "give tags in a CSV (--labels), or train without them: --no-use-dicom."
)


@dataclasses.dataclass(frozen=True)
class TagCoverage:
    """How many ultrasound files have one tag, and with which values."""

    # State ("mapped", "unmapped", "empty", "missing", "ignored") to number of files; their sum is
    # the number of ultrasound files.
    states: dict[str, int]
    untidy: int  # number of mapped files with an untidy raw value; included in "mapped"
    labels: dict[str, int]  # label to number of files, in the order of y
    # Raw value to (number of files, its labels), most frequent first.
    mapped_values: dict[str, tuple[int, tuple[str, ...]]]
    unmapped_values: dict[str, int]  # raw value to number of files, most frequent first
    # Unmapped value to a close known value and its labels, if there is one.
    suggestions: dict[str, tuple[str, tuple[str, ...]]]
    suspicious: tuple[str, ...]  # sentences on contradictions in the schema's map
    untidy_values: dict[str, int]  # raw value to number of files, most frequent first
    ignored_values: dict[str, int]  # raw value to number of files, most frequent first

    @property
    def tables(self) -> list[tuple[str, tuple[str, ...], list[tuple]]]:
        """Title, columns and rows of a table for each kind of value."""
        hints = {value: (known, _words(own)) for value, (known, own) in self.suggestions.items()}
        unmapped = [(v, n, *hints.get(v, ("", ""))) for v, n in self.unmapped_values.items()]
        mapped = [(value, n, _words(own)) for value, (n, own) in self.mapped_values.items()]
        tables = (
            ("Unmapped values", ("closest known value", "its labels"), unmapped),
            ("Untidy values, mapped nevertheless", (), [*self.untidy_values.items()]),
            ("Ignored values", (), [*self.ignored_values.items()]),
            ("Mapped values", ("labels",), mapped),
        )
        return [(title, ("value", "files", *more), rows) for title, more, rows in tables if rows]


@dataclasses.dataclass(frozen=True)
class Identification:
    """How patients were identified."""

    told: dict[str, int]  # what identified the patient to number of images
    oddities: dict[Flag, int]  # flag on patients to number of images
    copies: int  # files with the same image as another file; an image counts once
    largest: int  # images of the patient with most images
    warnings: tuple[str, ...]  # sentences to read before training


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Counts over a whole folder."""

    files: int  # all files, of any kind
    images: int  # ultrasound files that entered the index
    patients: int  # distinct patients among them
    identification: Identification  # how patients were identified
    unmapped_files: int  # ultrasound files without a mapped tag
    tags: dict[str, TagCoverage]  # tag name to its coverage
    flags: dict[Flag, int]  # flag to number of files, most frequent first
    refusals: dict[Code, int]  # code to number of files without an image

    @property
    def skipped(self) -> int:
        """Number of files that are something else, or not wanted."""
        return sum(n for code, n in self.refusals.items() if code.is_skip)

    @property
    def unreadable(self) -> int:
        """Number of files that are, or may be, ultrasound, but cannot be read."""
        return sum(self.refusals.values()) - self.skipped

    def with_decode_refusals(self, refusals: Iterable[Refusal]) -> "Coverage":
        """Adds undecodable files to the refusals; `images` and tags still count them, too."""
        counts = collections.Counter(self.refusals)
        counts.update(refusal.code for refusal in refusals)
        return dataclasses.replace(self, refusals=_in_order(counts))

    def with_flags(self, flags: Iterable[Iterable[Flag]]) -> "Coverage":
        """Adds the flags that decoding found, one collection per file."""
        counts = collections.Counter(self.flags)
        counts.update(itertools.chain.from_iterable(flags))
        return dataclasses.replace(self, flags=_by_count(counts))


def measure(
    schema: TagSchema,
    encodings: Sequence[Encoding],
    patients: Sequence[identity.Patient],
    flags: Iterable[Iterable[Flag]],
    refusals: Iterable[Refusal],
) -> Coverage:
    """Counts encodings, patients and flags of ultrasound files, and refusals of all others."""
    codes = collections.Counter(refusal.code for refusal in refusals)
    tags, start = {}, 0
    for tag in schema.tags:
        span = slice(start, start := start + len(tag.labels))
        tags[tag.name] = _measure_tag(tag, span, encodings)
    return Coverage(
        files=len(encodings) + codes.total(),
        images=len(encodings),
        patients=len({patient.pseudonym for patient in patients}),
        identification=_identification(patients, codes[Code.COPY]),
        unmapped_files=sum(not encoding.present.any() for encoding in encodings),
        tags=tags,
        flags=_by_count(collections.Counter(itertools.chain.from_iterable(flags))),
        refusals=_in_order(codes),
    )


def _identification(patients: Sequence[identity.Patient], copies: int) -> Identification:
    told = collections.Counter(patient.told for patient in patients)
    sizes = collections.Counter(patient.pseudonym for patient in patients)
    oddities = collections.Counter(flag for patient in patients for flag in patient.flags)
    images, largest = len(patients), max(sizes.values(), default=0)
    sentences = {
        f"One patient has {largest} of {images} images.": len(sizes) > 1 and 2 * largest > images,
        f"All {images} images are of one patient.": len(sizes) == 1 < images,
        f"Each of the {images} images has its own patient.": len(sizes) == images > 1,
    }
    remedy = "If that is wrong, give a labels CSV with a column patient."
    return Identification(
        {str(how): told[how] for how in identity.Told if told[how]},
        _by_count(oddities),
        copies,
        largest,
        tuple(f"{sentence} {remedy}" for sentence, is_so in sentences.items() if is_so),
    )


def _measure_tag(tag: Tag, span: slice, encodings: Sequence[Encoding]) -> TagCoverage:
    values = {state: collections.Counter() for state in (*STATES, "untidy")}
    hits = collections.Counter(dict.fromkeys(tag.labels, 0))
    meaning: dict[str, tuple[str, ...]] = {}
    for encoding in encodings:
        state, raw = encoding.states[tag.name]
        values[state][raw] += 1
        meaning[raw] = tuple(itertools.compress(tag.labels, encoding.y[span]))
        hits.update(meaning[raw])
        if tag.name in encoding.untidy:
            values["untidy"][raw] += 1
    counted = {state: _by_count(counts) for state, counts in values.items()}
    unmapped = counted["unmapped"]
    near = {value: closest(value, tag) for value in itertools.islice(unmapped, _SUGGESTIONS)}
    return TagCoverage(
        states={state: values[state].total() for state in STATES},
        untidy=values["untidy"].total(),
        labels=dict(hits),
        mapped_values={value: (n, meaning[value]) for value, n in counted["mapped"].items()},
        unmapped_values=unmapped,
        suggestions={v: (s.description, s.labels) for v, s in near.items() if s is not None},
        suspicious=suspicious(tag),
        untidy_values=counted["untidy"],
        ignored_values=counted["ignored"],
    )


def _by_count(counts: collections.Counter[str]) -> dict[str, int]:
    """Sorts by count, then by name, so that reports can be compared."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _in_order(counts: collections.Counter[Code]) -> dict[Code, int]:
    return {code: counts[code] for code in Code if counts[code]}


def _words(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "(no label)"


def require_tags(known: Mapping[str, float]) -> None:
    """Raises UserError if no image has a tag; `known` is tag to share of images, 0 to 1."""
    if not any(known.values()):
        raise UserError(f"No image has a tag that the schema knows. {_REMEDY}")


def warn_of_rare_tags(known: Mapping[str, float]) -> None:
    """Warns on standard error of tags that almost no image has."""
    for name, share in known.items():
        if share < _HARDLY_ANY:
            print(
                f"WARNING: only {100 * share:.1f} % of the images have a known value of the tag "
                f"{name}: there is hardly anything to learn from it. {_REMEDY}",
                file=sys.stderr,
            )
