"""Writes the report of an index: an HTML page, Markdown, JSON, and a CSV of all files.

Only these files and the file cache hold raw tag values and paths.
"""

import dataclasses
import functools
import heapq
import itertools
import json
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.coverage import Coverage
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.index import Index
from tf_dicom_ce.intake.thumbnails import thumbnails
from tf_dicom_ce.templates import fill
from tf_dicom_ce.whole_files import write_table, write_text

#: The files of a report.
FILES = ("coverage.html", "coverage.md", "coverage.json", "files.csv")
_COLUMNS = ("path", "row", "status", "what", "patient", "labels", "flags")
_NONE: Mapping[int, Refusal] = MappingProxyType({})
_PICTURES = 4  # per group


def require_readable(index: Index, undecodable: Mapping[int, Refusal] = _NONE) -> None:
    """Raises UserError, with remedies, if less than half of the images can be read."""
    coverage = index.coverage.with_decode_refusals(undecodable.values())
    readable = len(index.rows) - len(undecodable)
    if coverage.unreadable <= readable:
        return
    total = readable + coverage.unreadable
    lines = [f"{coverage.unreadable} of {total} images cannot be read:"]
    for code, count in coverage.refusals.items():
        if not code.is_skip:
            lines.append(f"  {count} {code.value}: {code.remedy}")
    lines.append("coverage.md lists them. Repair them, or train without them: --allow-unreadable")
    raise UserError("\n".join(lines))


def write_coverage(
    index: Index,
    folder: str | os.PathLike[str],
    undecodable: Mapping[int, Refusal] = _NONE,
    reader: ImageReader | None = None,
) -> None:
    """Writes the report's `FILES`; only this user can read them.

    Args:
        index: The index.
        folder: Folder to write to; it is made if missing.
        undecodable: Row number to refusal, for files whose pixels cannot be decoded.
        reader: Reads the page's pictures; by default a reader without options.
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
        json.dumps(dataclasses.asdict(coverage), indent=2) + "\n",
    )
    for name, content in zip(FILES[:-1], contents, strict=True):
        write_text(folder / name, content, private=True)
    write_table(folder / FILES[-1], _COLUMNS, _files(index, refusals), private=True)


def summary(index: Index, undecodable: Mapping[int, Refusal] = _NONE) -> str:
    """Returns a few lines for the terminal, without raw values or paths."""
    coverage = index.coverage.with_decode_refusals(undecodable.values())
    lines = [
        f"{coverage.images} images of {coverage.patients} patients; "
        f"{coverage.skipped} other files skipped, {coverage.unreadable} unreadable"
    ]
    for name, tag in coverage.tags.items():
        tidied = f" ({tag.untidy} after tidying)" if tag.untidy else ""
        others = (f", {n} {s}" for s, n in tag.states.items() if n and s != "mapped")
        lines.append(f"{name}: {tag.states['mapped']} mapped{tidied}{''.join(others)}")
    of_patients = coverage.identification
    told = ", ".join(f"{how} ({n})" for how, n in of_patients.told.items())
    lines.append(f"Patients identified by: {told}")
    flags = (*of_patients.oddities.items(), *coverage.flags.items())
    lines += (f"{n} files: {flag}" for flag, n in flags)
    if of_patients.copies:
        lines.append(f"{of_patients.copies} files are copies; each image counts once")
    lines += (f"WARNING: {sentence}" for sentence in of_patients.warnings)
    return "\n".join(lines)


def to_markdown(coverage: Coverage, refusals: Iterable[tuple[str, Refusal]] = ()) -> str:
    """Returns the report as Markdown; `refusals` are (relative path, refusal)."""

    def shares(counts: Mapping[str, int]) -> list[tuple]:
        return [
            (name, n, f"{100 * n / coverage.images:.1f} %" if coverage.images else "")
            for name, n in counts.items()
        ]

    content = {
        "coverage": coverage,
        "table": _table,
        "shares": shares,
        "slugs": lambda flags: [(flag, flag.slug, n) for flag, n in flags.items()],
        "codes": [(c.value, _kind(c), n, c.remedy) for c, n in coverage.refusals.items()],
        "unreadable": [(p, r.code.value, r.detail) for p, r in refusals if not r.code.is_skip],
    }
    return fill("intake/coverage.md.jinja", content)


def _table(header: tuple[str, ...], rows: Iterable[tuple]) -> str:
    def line(cells: Iterable) -> str:
        texts = (" ".join(str(cell).splitlines()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(texts)} |"

    def shown(name: str, cell: Any) -> Any:
        # In quotes, so that leading blanks are visible.
        return f'"{cell}"' if name == "value" or (name.endswith(" value") and cell) else cell

    quoted = (map(shown, header, row) for row in rows)
    return "\n".join(map(line, (header, ("---" for _ in header), *quoted)))


def _kind(code: Code) -> str:
    return "skipped" if code.is_skip else "unreadable"


def _files(index: Index, refusals: Iterable[tuple[str, Refusal]]) -> Iterator[dict[str, str]]:
    """Yields one row per file, by path; an undecodable image has the columns of both kinds."""

    def images() -> Iterator[dict[str, str]]:
        for number, row in enumerate(index.rows):
            yield {
                "path": row.path,
                "row": str(number),
                "status": "image",
                "what": row.kind,
                "patient": row.pseudonym,
                "labels": "|".join(itertools.compress(index.schema.labels, row.y)),
                "flags": "|".join(row.flags),
            }

    def others() -> Iterator[dict[str, str]]:
        for path, refusal in refusals:
            what = f"{refusal.code.value} {refusal.detail}".strip()
            yield {"path": path, "status": _kind(refusal.code), "what": what}

    by_path = operator.itemgetter("path")
    for _, rows in itertools.groupby(heapq.merge(images(), others(), key=by_path), by_path):
        yield functools.reduce(operator.or_, rows)


def render_page(index: Index, reader: ImageReader, undecodable: Mapping[int, Refusal]) -> str:
    """Returns the report as one self-contained HTML page with images; text is escaped."""
    unreadable = {index.rows[row].path: refusal for row, refusal in undecodable.items()}
    unreadable |= {path: r for path, r in index.refusals if not r.code.is_skip}
    content = {
        "coverage": index.coverage.with_decode_refusals(undecodable.values()),
        "schema": index.schema.name,
        "pictures": _pictures(index, reader, undecodable),
        "unreadable": sorted(unreadable.items()),
    }
    return fill("intake/coverage.html.jinja", content)


def _pictures(
    index: Index, reader: ImageReader, undecodable: Mapping[int, Refusal]
) -> dict[tuple[str, str], list[str]]:
    """Returns (tag, label) to base64 JPEGs of a few of its images, spread over the folder."""
    groups = {}
    y = np.array([row.y for row in index.rows])
    labels = [(tag.name, label) for tag in index.schema.tags for label in tag.labels]
    for label, column in zip(labels, y.T, strict=True):
        rows = np.flatnonzero(column)
        spread = np.linspace(0, len(rows) - 1, min(_PICTURES, len(rows))).round().astype(int)
        groups[label] = rows[spread].tolist()
    chosen = {row for rows in groups.values() for row in rows} - undecodable.keys()
    decoded = thumbnails(index, reader, chosen)
    return {group: [decoded[k] for k in rows if k in decoded] for group, rows in groups.items()}
