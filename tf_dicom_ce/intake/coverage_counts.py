"""What an index found: the numbers to look at before training."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.suggestions import closest, suspicious
from tf_dicom_ce.dicom.tags import STATES, Encoding, Tag, TagSchema
from tf_dicom_ce.intake import identity

_SUGGESTIONS = 300  # values that are looked at, so that a folder of free text takes no minutes


def in_words(labels: Sequence[str]) -> str:
    """Labels for a table."""
    return ", ".join(labels) or "(no label)"


@dataclasses.dataclass(frozen=True)
class TagCoverage:
    """How one tag fared over all ultrasound files.

    Attributes:
        states: State ("mapped", "unmapped", "empty", "missing", "ignored") to number of files;
            the numbers add up to all ultrasound files.
        untidy: Number of mapped files whose raw value needed tidying; included in "mapped".
        labels: Label to number of files, in the order of y.
        mapped_values: Raw value to (number of files, its labels), most frequent first.
        unmapped_values: Raw value to number of files, most frequent first.
        suggestions: Unmapped value to the closest known one and its labels, where one is close.
        suspicious: What is contradictory in the schema's map, as sentences.
        untidy_values: Raw value to number of files, most frequent first.
        ignored_values: Raw value to number of files, most frequent first.
    """

    states: dict[str, int]
    untidy: int
    labels: dict[str, int]
    mapped_values: dict[str, tuple[int, tuple[str, ...]]]
    unmapped_values: dict[str, int]
    suggestions: dict[str, tuple[str, tuple[str, ...]]]
    suspicious: tuple[str, ...]
    untidy_values: dict[str, int]
    ignored_values: dict[str, int]

    def hint(self, value: str) -> tuple[str, str]:
        """What an unmapped value may be: the closest known one and its labels, or twice nothing."""
        if value not in self.suggestions:
            return "", ""
        known, labels = self.suggestions[value]
        return known, in_words(labels)


@dataclasses.dataclass(frozen=True)
class Identification:
    """How patients were told apart.

    Attributes:
        told: What told the patient to number of images.
        oddities: What is odd about patients to number of images.
        copies: Files that hold an image once more; they count once.
        largest: Images of the patient who has most.
        warnings: What to look at before training, as sentences.
    """

    told: dict[str, int]
    oddities: dict[Flag, int]
    copies: int
    largest: int
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Counts over a whole folder.

    Attributes:
        files: All files found, of whatever kind.
        images: Ultrasound files that entered the index.
        patients: Distinct patients among them.
        identification: How they were told apart.
        unmapped_files: Ultrasound files none of whose tags mapped.
        tags: Tag name to its coverage.
        flags: Decision on tags or picture to number of files, most frequent first.
        refusals: Code to number of files that yield no frame.
    """

    files: int
    images: int
    patients: int
    identification: Identification
    unmapped_files: int
    tags: dict[str, TagCoverage]
    flags: dict[Flag, int]
    refusals: dict[Code, int]

    @property
    def skipped(self) -> int:
        """Number of files that are something else."""
        return sum(n for code, n in self.refusals.items() if code.is_skip)

    @property
    def unreadable(self) -> int:
        """Number of ultrasound files that cannot be read."""
        return sum(n for code, n in self.refusals.items() if not code.is_skip)

    def with_decode_refusals(self, refusals: Iterable[Refusal]) -> "Coverage":
        """Adds files that entered the index and turned out to be undecodable.

        Args:
            refusals: One per file, from decoding the pixels.

        Returns:
            Coverage with more refusals; `images` and the tags still count the whole index.
        """
        counts = collections.Counter(self.refusals)
        counts.update(refusal.code for refusal in refusals)
        return dataclasses.replace(self, refusals=_in_order(counts))

    def with_flags(self, flags: Iterable[Iterable[Flag]]) -> "Coverage":
        """Adds flags that decoding told: those of each file."""
        counts = collections.Counter(self.flags)
        counts.update(flag for file in flags for flag in file)
        return dataclasses.replace(self, flags=_by_count(counts))


def measure(
    schema: TagSchema,
    encodings: Sequence[Encoding],
    patients: Sequence[identity.Patient],
    flags: Iterable[Iterable[Flag]],
    refusals: Iterable[Refusal],
) -> Coverage:
    """Counts.

    Args:
        schema: The schema that encoded the files.
        encodings: One per ultrasound file.
        patients: The patient of each.
        flags: The decisions on tags and picture of each.
        refusals: One per file that yields no frame.

    Returns:
        The coverage of the folder.
    """
    codes = collections.Counter(refusal.code for refusal in refusals)
    return Coverage(
        files=len(encodings) + codes.total(),
        images=len(encodings),
        patients=len({patient.pseudonym for patient in patients}),
        identification=_identification(patients, codes[Code.COPY]),
        unmapped_files=sum(not encoding.present.any() for encoding in encodings),
        tags=_measure_tags(schema, encodings),
        flags=_by_count(collections.Counter(flag for file in flags for flag in file)),
        refusals=_in_order(codes),
    )


def _identification(patients: Sequence[identity.Patient], copies: int) -> Identification:
    told = collections.Counter(patient.told for patient in patients)
    sizes = collections.Counter(patient.pseudonym for patient in patients)
    oddities = collections.Counter(flag for patient in patients for flag in patient.flags)
    images, largest = len(patients), max(sizes.values(), default=0)
    remedy = "If that is wrong, give a labels CSV with a column patient."
    warnings = []
    if len(sizes) > 1 and 2 * largest > images:
        warnings.append(f"One patient has {largest} of {images} images. {remedy}")
    if len(sizes) == 1 < images:
        warnings.append(f"All {images} images are of one patient. {remedy}")
    if len(sizes) == images > 1:
        warnings.append(f"Every image is of a patient of its own ({images}). {remedy}")
    return Identification(
        {str(how): told[how] for how in identity.Told if told[how]},
        _by_count(oddities),
        copies,
        largest,
        tuple(warnings),
    )


def _measure_tags(schema: TagSchema, encodings: Sequence[Encoding]) -> dict[str, TagCoverage]:
    coverages = {}
    start = 0
    for tag in schema.tags:
        span = slice(start, start := start + len(tag.labels))
        states: collections.Counter[str] = collections.Counter()
        values = {state: collections.Counter() for state in (*STATES, "untidy")}
        hits = collections.Counter(dict.fromkeys(tag.labels, 0))
        meaning: dict[str, tuple[str, ...]] = {}
        for encoding in encodings:
            state, raw = encoding.states[tag.name]
            found = tuple(
                label for label, on in zip(tag.labels, encoding.y[span], strict=True) if on
            )
            states[state] += 1
            values[state][raw] += 1
            hits.update(found)
            meaning[raw] = found
            if tag.name in encoding.untidy:
                values["untidy"][raw] += 1
        coverages[tag.name] = TagCoverage(
            states={state: states[state] for state in STATES},
            untidy=values["untidy"].total(),
            labels=dict(hits),
            mapped_values={v: (n, meaning[v]) for v, n in _by_count(values["mapped"]).items()},
            unmapped_values=_by_count(values["unmapped"]),
            suggestions=_suggest(tag, _by_count(values["unmapped"])),
            suspicious=suspicious(tag),
            untidy_values=_by_count(values["untidy"]),
            ignored_values=_by_count(values["ignored"]),
        )
    return coverages


def _suggest(tag: Tag, values: Iterable[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The closest known value of the most frequent unmapped ones."""
    found = {value: closest(value, tag) for value in itertools.islice(values, _SUGGESTIONS)}
    return {value: (s.description, s.labels) for value, s in found.items() if s is not None}


def _by_count(counts: collections.Counter[str]) -> dict[str, int]:
    """Most frequent first, equals by name, so that reports compare."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _in_order(counts: collections.Counter[Code]) -> dict[Code, int]:
    return {code: counts[code] for code in Code if counts[code]}
