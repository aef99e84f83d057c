"""Coverage as files and text. Raw tag values and paths stand here and nowhere else."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.coverage_counts import Coverage, TagCoverage, in_words
from tf_dicom_ce.intake.coverage_page import render_page
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.index import Index
from tf_dicom_ce.whole_files import as_csv, write_text

__all__ = [
    "FILES",
    "Coverage",
    "TagCoverage",
    "summary",
    "to_json",
    "to_markdown",
    "write_coverage",
]

#: What the report consists of.
FILES = ("coverage.html", "coverage.md", "coverage.json", "files.csv")
_NONE: Mapping[int, Refusal] = MappingProxyType({})
_FILE_COLUMNS = ("path", "row", "status", "what", "patient", "labels", "flags")


def write_coverage(
    index: Index,
    folder: str | os.PathLike[str],
    undecodable: Mapping[int, Refusal] = _NONE,
    reader: ImageReader | None = None,
) -> None:
    """Writes the report's `FILES`, each in one step, for this user alone.

    Args:
        index: The index.
        folder: Made if need be.
        undecodable: Row number to refusal, for files whose pixels could not be decoded.
        reader: Reads the pictures of the page; None for one without options.

    Raises:
        OSError: The folder cannot be written.
    """
    reader = reader or ImageReader(index.root, index.schema.sop_classes)
    coverage = index.coverage.with_decode_refusals(undecodable.values())
    paths = {index.rows[k].path: refusal for k, refusal in undecodable.items()}
    refusals = sorted((*index.refusals, *paths.items()), key=lambda pair: pair[0])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = (
        render_page(index, reader, undecodable),
        to_markdown(coverage, refusals),
        to_json(coverage),
        as_csv(_FILE_COLUMNS, _files(index, paths), heading=True),
    )
    for name, content in zip(FILES, contents, strict=True):
        write_text(folder / name, content, private=True)


def summary(index: Index, undecodable: Mapping[int, Refusal] = _NONE) -> str:
    """A few lines for the terminal, without any raw value or path.

    Args:
        index: The index.
        undecodable: As in `write_coverage`.
    """
    coverage = index.coverage.with_decode_refusals(undecodable.values())
    lines = [
        f"{coverage.images} images of {coverage.patients} patients; "
        f"{coverage.skipped} other files skipped, {coverage.unreadable} unreadable"
    ]
    for name, tag in coverage.tags.items():
        others = ", ".join(f"{n} {s}" for s, n in tag.states.items() if n and s != "mapped")
        lines.append(
            f"{name}: {tag.states['mapped']} mapped"
            + (f" ({tag.untidy} after tidying)" if tag.untidy else "")
            + (f", {others}" if others else "")
        )
    of_patients = coverage.identification
    lines.append(f"Patients told apart by: {_counted(of_patients.told)}")
    lines += (f"{n} files: {flag}" for flag, n in of_patients.oddities.items())
    lines += (f"{n} files: {flag}" for flag, n in coverage.flags.items())
    if of_patients.copies:
        lines.append(f"{of_patients.copies} files are copies of others, which count once")
    lines += (f"WARNING: {sentence}" for sentence in of_patients.warnings)
    return "\n".join(lines)


def to_json(coverage: Coverage) -> str:
    """All counts as JSON; keys are the attribute names of `Coverage`."""
    return json.dumps(dataclasses.asdict(coverage), indent=2) + "\n"


def to_markdown(coverage: Coverage, refusals: Iterable[tuple[str, Refusal]] = ()) -> str:
    """The report for people.

    Args:
        coverage: The counts.
        refusals: (relative path, Refusal), to list the unreadable files by name.

    Returns:
        Markdown; it quotes raw tag values and paths.
    """
    parts = [
        "# Tag coverage\n",
        "This file quotes values and paths as found: keep it where the images are.\n",
        _table(
            ("", "files"),
            (
                ("all files", coverage.files),
                ("ultrasound files", coverage.images),
                ("patients", coverage.patients),
                ("none of the tags mapped", coverage.unmapped_files),
                ("skipped, something else", coverage.skipped),
                ("unreadable", coverage.unreadable),
            ),
        ),
    ]
    of_patients = coverage.identification
    parts += [
        "## Patients\n",
        *(f"**{sentence}**\n" for sentence in of_patients.warnings),
        _table(("told apart by", "images"), of_patients.told.items()),
        _table(
            ("", "--exclude", "images"),
            (
                ("of the patient who has most", "", of_patients.largest),
                ("copies of others, which count once", "", of_patients.copies),
                *_named(of_patients.oddities),
            ),
        ),
    ]
    for name, tag in coverage.tags.items():
        parts += _tag_sections(name, tag, coverage.images)
    if coverage.flags:
        parts += [
            "## Decisions on images\n",
            _table(("decision", "--exclude", "files"), _named(coverage.flags)),
        ]
    if coverage.refusals:
        rows = (
            (c.value, "skipped" if c.is_skip else "unreadable", n, c.remedy)
            for c, n in coverage.refusals.items()
        )
        parts += [
            "## Files without a frame\n",
            _table(("code", "kind", "files", "remedy"), rows),
        ]
    unreadable = [(p, r.code.value, r.detail) for p, r in refusals if not r.code.is_skip]
    if unreadable:
        parts += ["## Unreadable files\n", _table(("path", "code", "detail"), unreadable)]
    return "\n".join(parts)


def _tag_sections(name: str, tag: TagCoverage, images: int) -> list[str]:
    def share(count: int) -> str:
        return f"{100 * count / images:.1f} %" if images else ""

    states = [(state, n, share(n)) for state, n in tag.states.items()]
    states.insert(1, ("of these untidy", tag.untidy, share(tag.untidy)))
    parts = [
        f"## Tag: {name}\n",
        _table(("state", "files", "share"), states),
        _table(("label", "files", "share"), ((k, n, share(n)) for k, n in tag.labels.items())),
    ]
    if tag.suspicious:
        parts += [f"### Worth a second look in the map: {name}\n"]
        parts += [f"- {sentence}\n" for sentence in tag.suspicious]
    if tag.unmapped_values:
        rows = (
            (_shown(v), n, known and _shown(known), labels)
            for v, n in tag.unmapped_values.items()
            for known, labels in [tag.hint(v)]
        )
        header = ("value", "files", "closest known value", "its labels")
        parts += [f"### Unmapped values: {name}\n", _table(header, rows)]
    for title, values in (
        ("Untidy values", tag.untidy_values),
        ("Ignored values", tag.ignored_values),
    ):
        if values:
            rows = ((_shown(v), n) for v, n in values.items())
            parts += [f"### {title}: {name}\n", _table(("value", "files"), rows)]
    if tag.mapped_values:
        rows = ((_shown(v), n, in_words(labels)) for v, (n, labels) in tag.mapped_values.items())
        parts += [f"### Mapped values: {name}\n", _table(("value", "files", "labels"), rows)]
    return parts


def _named(flags: Mapping[Flag, int]) -> list[tuple[str, str, int]]:
    return [(flag, flag.slug, count) for flag, count in flags.items()]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts.items())


def _shown(value: str) -> str:
    # In quotes, or leading blanks would not be seen.
    return f'"{value}"'


def _table(header: tuple[str, ...], rows: Iterable[tuple]) -> str:
    def line(cells: Iterable) -> str:
        texts = (" ".join(str(c).splitlines()).replace("|", "\\|") for c in cells)
        return f"| {' | '.join(texts)} |\n"

    return line(header) + line("---" for _ in header) + "".join(line(row) for row in rows)


def _files(index: Index, undecodable: Mapping[str, Refusal]) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for number, row in enumerate(index.rows):
        labels = (k for k, on in zip(index.schema.labels, row.y, strict=True) if on)
        rows[row.path] = {
            "path": row.path,
            "row": str(number),
            "status": "image",
            "what": row.kind,
            "patient": row.pseudonym,
            "labels": "|".join(labels),
            "flags": "|".join(row.flags),
        }
    for path, refusal in (*index.refusals, *undecodable.items()):
        rows[path] = {
            **rows.get(path, {"path": path}),
            "status": "skipped" if refusal.code.is_skip else "unreadable",
            "what": f"{refusal.code.value} {refusal.detail}".strip(),
        }
    return [rows[path] for path in sorted(rows)]
