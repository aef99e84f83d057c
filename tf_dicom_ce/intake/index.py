"""A folder of files to an index of its images."""

import dataclasses
import functools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.progress import Progress

from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.tags import Encoding, TagSchema
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import examination
from tf_dicom_ce.intake.coverage_counts import Coverage, measure
from tf_dicom_ce.intake.decoding import refusal_of
from tf_dicom_ce.intake.examination import PATIENT_BY_FILE, PATIENT_BY_STUDY, Facts, examine
from tf_dicom_ce.intake.header_cache import HeaderCache, Stamp, default_header_cache
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.intake.tag_table import Entry
from tf_dicom_ce.workers import guarded_map

TAGS_FROM_TABLE = "tags from the labels CSV"
PATIENT_FROM_TABLE = "patient from the labels CSV"

# Below this, starting processes costs more than it saves; headers are read by Python alone, which
# does not die.
_IN_PROCESS = 300
_SAVE_EVERY = 500
_SHOW_EVERY = 50
_NO_TABLE: Mapping[str, Entry] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Row:
    """One image file.

    Attributes:
        path: Relative to the root, POSIX.
        size: Bytes.
        mtime_ns: Time of the last change.
        patient: Number of the patient, by first appearance in the order of paths.
        pseudonym: The patient's HMAC with the user's secret, the same in every source.
        frames: (0028,0008) Number of Frames, at least 1.
        y: The multi-hot labels, (L,) of 0.0 or 1.0.
        present: (L,), True over the span of each tag that mapped.
        kind: What the file is, e.g. "480×640 RGB, 30 frames, JPEG Baseline".
        flags: Every decision on patient, tags and picture, in plain words.
    """

    path: str
    size: int
    mtime_ns: int
    patient: int
    pseudonym: str
    frames: int
    y: tuple[float, ...]
    present: tuple[bool, ...]
    kind: str
    flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Index:
    """The images below a folder.

    Attributes:
        root: The folder.
        schema: What encoded the tags.
        rows: The images, in the order of paths.
        refusals: (relative path, Refusal) of all others, in the order of paths.
        coverage: The counts.
        read: Number of files that were read anew; the others had not changed.
    """

    root: Path
    schema: TagSchema
    rows: tuple[Row, ...]
    refusals: tuple[tuple[str, Refusal], ...]
    coverage: Coverage
    read: int = dataclasses.field(compare=False)


def scan(
    root: str | os.PathLike[str],
    schema: TagSchema,
    table: Mapping[str, Entry] = _NO_TABLE,
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Index:
    """Indexes a folder, recursively; reads headers only and follows no links.

    What was read is kept as it comes, so that a scan that was cut off goes on where it stopped and
    a second one reads only what has changed.

    Args:
        root: The folder.
        schema: Encodes the tags.
        table: Tag values by path that stand above the headers' (`tag_table.read_tag_table`). PNG
            and JPEG files are images only if they are listed here.
        cache: Folder of the header caches; None for the user's.
        workers: Processes; None for one per CPU core. The result does not depend on it.
        progress: Shows a bar on standard error.

    Returns:
        The index.

    Raises:
        UserError: `root` is no folder, is empty, or holds no readable image; or the table names a
            file that is not there.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist; give a folder of DICOM files")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the folder that holds the DICOM files")
    secret = load_secret()
    stamps, unlisted = _list_files(root)
    if not stamps and not unlisted:
        raise UserError(f"{root} is empty; give a folder that holds DICOM files")
    for path, entry in table.items():
        if path not in stamps:
            raise UserError(f"{entry.where}: no such file in {root}.")
    rules = (str(examination.RULES_VERSION), *sorted(schema.sop_classes), *schema.elements)
    kept = HeaderCache(cache or default_header_cache(), (str(root.resolve()), *rules), secret)
    results = _known(kept, stamps)
    read = len(stamps) - len(results)
    look = functools.partial(examine, root, schema, secret)
    results |= _examine_all(look, stamps, results.keys(), kept, workers, progress)
    return _assemble(root, schema, table, secret, stamps, {**unlisted, **results}, read)


def _list_files(root: Path) -> tuple[dict[str, Stamp], dict[str, Refusal]]:
    """All regular files below `root` in the order of their relative POSIX paths, and the rest."""
    stamps: dict[str, Stamp] = {}
    unlisted: dict[str, Refusal] = {}

    def refuse(error: OSError) -> None:
        path = Path(error.filename).relative_to(root).as_posix()
        unlisted[path] = Refusal(Code.OS_ERROR, type(error).__name__)

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        prefix = "" if Path(folder) == root else f"{Path(folder).relative_to(root).as_posix()}/"
        # Linked folders are not entered; they are listed so that they are reported.
        for name in (*names, *subfolders):
            try:
                status = os.lstat(f"{folder}/{name}")
            except OSError as error:
                unlisted[prefix + name] = Refusal(Code.OS_ERROR, type(error).__name__)
                continue
            if stat.S_ISREG(status.st_mode):
                stamps[prefix + name] = (status.st_size, status.st_mtime_ns)
            elif not stat.S_ISDIR(status.st_mode):
                unlisted[prefix + name] = Refusal(Code.NOT_REGULAR)
    return dict(sorted(stamps.items())), unlisted


def _known(kept: HeaderCache, stamps: dict[str, Stamp]) -> dict[str, Facts | Refusal]:
    """What an earlier scan found of files that have not changed since."""
    return {
        path: examination.from_json(entry)
        for path, (stamp, entry) in kept.load().items()
        if stamps.get(path) == stamp
    }


def _examine_all(
    look: functools.partial,
    stamps: dict[str, Stamp],
    known: Iterable[str],
    kept: HeaderCache,
    workers: int | None,
    progress: bool,
) -> dict[str, Facts | Refusal]:
    """Examines what is not known yet, and keeps it."""
    known = set(known)
    paths = [path for path in stamps if path not in known]
    results: dict[str, Facts | Refusal] = {}
    unsaved: list[str] = []

    def save() -> None:
        kept.append((p, stamps[p], examination.to_json(results[p])) for p in unsaved)
        unsaved.clear()

    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("Reading headers", total=len(paths))
        try:
            for path, result in zip(paths, _examined(look, paths, workers), strict=True):
                results[path] = result
                # A disk may recover, and what a worker died of may not happen again.
                if not (isinstance(result, Refusal) and result.code.may_pass):
                    unsaved.append(path)
                if len(unsaved) >= _SAVE_EVERY:
                    save()
                if len(results) % _SHOW_EVERY == 0:
                    bar.update(task, completed=len(results))
        finally:
            save()
    return results


def _examined(
    look: functools.partial, paths: list[str], workers: int | None
) -> Iterator[Facts | Refusal]:
    if len(paths) <= _IN_PROCESS:
        return map(look, paths)
    return guarded_map(look, paths, refusal_of, workers, chunk=32)


def _assemble(
    root: Path,
    schema: TagSchema,
    table: Mapping[str, Entry],
    secret: bytes,
    stamps: dict[str, Stamp],
    results: dict[str, Facts | Refusal],
    read: int,
) -> Index:
    rows: list[Row] = []
    refusals: list[tuple[str, Refusal]] = []
    encodings: list[Encoding] = []
    patients: dict[str, int] = {}
    encode = functools.lru_cache(maxsize=None)(lambda items: schema.encode(dict(items)))
    for path, facts in sorted(results.items()):
        entry = table.get(path)
        if isinstance(facts, Facts) and facts.is_picture and entry is None:
            facts = Refusal(Code.UNLISTED_PICTURE)
        if isinstance(facts, Refusal):
            refusals.append((path, facts))
            continue
        facts = facts if entry is None else _completed(facts, entry, secret)
        encodings.append(encoding := encode(tuple(facts.values.items())))
        rows.append(
            Row(
                path,
                *stamps[path],
                patients.setdefault(facts.patient, len(patients)),
                facts.patient,
                facts.frames,
                tuple(encoding.y.tolist()),
                tuple(encoding.present.tolist()),
                facts.kind,
                facts.flags,
            )
        )
    coverage = measure(
        schema,
        encodings,
        patients=len(patients),
        flags=(row.flags for row in rows),
        refusals=(refusal for _, refusal in refusals),
    )
    if not rows:
        counts = ", ".join(f"{n} {code.value}" for code, n in coverage.refusals.items())
        raise UserError(
            f"{root} holds no readable ultrasound image; its {coverage.files} files are: {counts}"
        )
    return Index(root, schema, tuple(rows), tuple(refusals), coverage, read)


def _completed(facts: Facts, entry: Entry, secret: bytes) -> Facts:
    """What a header says, with what the table says above it."""
    flags = facts.flags
    patient = facts.patient
    if entry.values:
        flags = (*flags, TAGS_FROM_TABLE)
    if entry.patient is not None:
        # As a Patient ID: equal whether it comes from here or from a header.
        patient = pseudonym(secret, "PatientID", entry.patient)
        by_default = (PATIENT_BY_FILE, PATIENT_BY_STUDY)
        flags = (PATIENT_FROM_TABLE, *(flag for flag in flags if flag not in by_default))
    values = {**facts.values, **entry.values}
    return facts._replace(patient=patient, flags=flags, values=values)
