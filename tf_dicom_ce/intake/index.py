"""Indexes the images of a folder."""

import collections
import dataclasses
import functools
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.pictures import picture_format
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.contents import find_copies
from tf_dicom_ce.intake.coverage import Coverage, measure
from tf_dicom_ce.intake.decoding import ImageReader, Sample
from tf_dicom_ce.intake.examination import Device, Facts, examine_all
from tf_dicom_ce.intake.file_cache import Stamp, stamp_of
from tf_dicom_ce.intake.identity import tell_apart
from tf_dicom_ce.intake.secret import load_secret
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.tag_table import Entry

_LISTERS = 16  # folders to list at the same time


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One image file."""

    path: str  # relative to the root, POSIX
    patient: int  # number of the patient, by first appearance in the order of paths
    pseudonym: str  # of the patient, by the user's secret
    frames: int  # (0028,0008) Number of Frames, at least 1
    y: tuple[float, ...]  # the multi-hot labels, (L,) of 0.0 or 1.0
    present: tuple[bool, ...]  # (L,), True over the span of each tag that mapped
    kind: str  # what the file is, e.g. "480×640 RGB, 30 frames, JPEG Baseline"
    study: str  # pseudonym of the Study Instance UID; "" if there is none
    device: Device  # pseudonyms of manufacturer and station
    # Tag name to its state (`rules.STATES`) and raw value, see `Encoding`.
    states: Mapping[str, tuple[str, str]]
    flags: tuple[Flag, ...] = ()  # every decision that needs no decoding


@dataclasses.dataclass(frozen=True)
class Index:
    """The images below a folder."""

    root: Path
    schema: TagSchema  # encoded the tags
    rows: tuple[Row, ...]  # the images, in the order of paths
    refusals: tuple[tuple[str, Refusal], ...]  # paths of all other files, in order, and why
    coverage: Coverage
    read: int = dataclasses.field(compare=False)  # number of files read, new or changed

    def with_decoded(self, flags: Mapping[int, Iterable[Flag]]) -> "Index":
        """Adds flags that decoding found, by row number; a flag that a row has is not repeated."""
        rows, added = list(self.rows), []
        for number, told in flags.items():
            row = rows[number]
            added.append([flag for flag in dict.fromkeys(told) if flag not in row.flags])
            rows[number] = dataclasses.replace(row, flags=(*row.flags, *added[-1]))
        coverage = self.coverage.with_flags(added)
        return dataclasses.replace(self, rows=tuple(rows), coverage=coverage)


def scan(
    root: str | os.PathLike[str],
    schema: TagSchema,
    table: Mapping[str, Entry] = MappingProxyType({}),
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    exclude: frozenset[Flag] = frozenset(),
) -> Index:
    """Indexes a folder, recursively; reads only headers and follows no links.

    Facts are kept as they are read: an interrupted scan continues, and a second scan reads only
    changed files.

    Args:
        root: The folder.
        schema: Encodes the tags.
        table: Path to tag values that override the header's (`tag_table.read_tag_table`). PNG and
            JPEG files are images only if they are listed here.
        cache: Folder for the facts; None for the user's cache.
        workers: Processes; None for one per CPU core. The result does not depend on it.
        progress: Shows a bar on standard error.
        exclude: Leave out images with one of these flags, and their copies.

    Raises:
        UserError: `root` is no folder, is empty, or holds no readable image; or the table lists a
            missing file, or contradicts itself about equal images.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist; give a folder of DICOM files")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the folder that holds the DICOM files")
    stamps, unlisted = _list_files(root)
    if not stamps and not unlisted:
        raise UserError(f"{root} is empty; give a folder that holds DICOM files")
    for path, entry in table.items():
        if path not in stamps:
            raise UserError(f"{entry.where}: no such file in {root}.")
    results, read = examine_all(root, schema, stamps, cache, workers, progress)
    images, refusals = _images(results, table)
    refusals |= unlisted
    del stamps, results  # for millions of files they need much memory
    # Of equal images, the one in the table counts.
    first = dict(sorted(images.items(), key=lambda item: item[0] not in table))
    copies = find_copies(ImageReader(root, schema.sop_classes), first, progress)
    for path, one in copies.items():
        if path in table and one in table:
            a, b = table[one], table[path]
            if (a.patient, a.values) != (b.patient, b.values):
                raise UserError(
                    f"{b.where}: '{path}' is the same image as '{one}' ({a.where}), with other "
                    "tags or another patient. Correct one of them, or remove one."
                )
    patients = tell_apart({path: facts.identity for path, facts in images.items()}, copies)
    excluded = {
        copies.get(path, path)
        for path, facts in images.items()
        if not exclude.isdisjoint((*facts.flags, *patients[path].flags))
    }
    left_out = dict.fromkeys(excluded, Code.EXCLUDED) | dict.fromkeys(copies, Code.COPY)
    refusals |= {path: Refusal(code) for path, code in left_out.items()}
    images = {path: facts for path, facts in images.items() if path not in left_out}

    @functools.cache
    def encode(items):
        encoding = schema.encode(dict(items))
        return encoding, tuple(encoding.y.tolist()), tuple(encoding.present.tolist())

    encoded = [encode(tuple(facts.values.items())) for facts in images.values()]
    encodings = [encoding for encoding, *_ in encoded]
    found = [patients[path] for path in images]
    flags = (facts.flags for facts in images.values())
    coverage = measure(schema, encodings, found, flags, refusals.values())
    if not images:
        counts = ", ".join(f"{n} {code.value}" for code, n in coverage.refusals.items())
        raise UserError(
            f"{root} holds no readable ultrasound image; its {coverage.files} files are: {counts}"
        )
    numbers: dict[str, int] = {}
    rows, once = [], {}
    for (path, facts), patient, (encoding, y, present) in zip(
        images.items(), found, encoded, strict=True
    ):
        number = numbers.setdefault(patient.pseudonym, len(numbers))
        flags = (*patient.flags, *facts.flags)
        of_file = (facts.frames, y, present, facts.kind, facts.identity.study, facts.device)
        of_file = (*of_file, encoding.states, once.setdefault(flags, flags))
        rows.append(Row(path, number, patient.pseudonym, *of_file))
    return Index(root, schema, tuple(rows), tuple(sorted(refusals.items())), coverage, read)


def list_pictures(root: Path) -> dict[str, Entry]:
    """Makes an empty table entry for every PNG and JPEG of a folder, so that it is an image."""
    pictures = (path for path in root.rglob("*") if picture_format(path))
    return {path.relative_to(root).as_posix(): Entry("", {}, None) for path in pictures}


def _list_files(root: Path) -> tuple[dict[str, Stamp], dict[str, Refusal]]:
    """Lists all regular files below `root`, by relative POSIX path, and refuses all others.

    Several folders are listed at the same time: a network disk is slow, but serves many at once.
    """
    stamps: dict[str, Stamp] = {}
    unlisted: dict[str, Refusal] = {}
    with ThreadPoolExecutor(_LISTERS) as threads:
        listings = collections.deque([threads.submit(_list_folder, root, "")])
        while listings:
            files, others, folders = listings.popleft().result()
            stamps |= files
            unlisted |= others
            listings.extend(threads.submit(_list_folder, root, folder) for folder in folders)
    return dict(sorted(stamps.items())), unlisted


def _list_folder(root: Path, folder: str) -> tuple[dict[str, Stamp], dict[str, Refusal], list[str]]:
    """Returns a folder's regular files, refusals of links and the like, and its folders.

    Links to folders are not followed, but refused, so that the report counts them.
    """
    files: dict[str, Stamp] = {}
    others: dict[str, Refusal] = {}
    folders: list[str] = []
    try:
        with os.scandir(root / folder) as listing:
            entries = list(listing)
    except OSError as error:
        return files, {folder or ".": Refusal(Code.OS_ERROR, type(error).__name__)}, folders
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            others[path] = Refusal(Code.OS_ERROR, type(error).__name__)
            continue
        if stat.S_ISREG(status.st_mode):
            files[path] = stamp_of(status)
        elif stat.S_ISDIR(status.st_mode):
            folders.append(path)
        else:
            others[path] = Refusal(Code.NOT_REGULAR)
    return files, others, folders


def _images(
    results: Mapping[str, Facts | Refusal], table: Mapping[str, Entry]
) -> tuple[dict[str, Facts], dict[str, Refusal]]:
    """Returns the images, with the table's values; and the refusals of all other files."""
    images: dict[str, Facts] = {}
    refusals: dict[str, Refusal] = {}
    secret = load_secret()
    for path, facts in sorted(results.items()):
        entry = table.get(path)
        if isinstance(facts, Refusal):
            refusals[path] = facts
        elif facts.is_picture and entry is None:
            refusals[path] = Refusal(Code.UNLISTED_PICTURE)
        elif entry is None:
            images[path] = facts
        else:
            said = facts.identity
            images[path] = facts._replace(
                identity=said.given_by_table(entry.patient, secret) if entry.patient else said,
                flags=(*([Flag.TAGS_FROM_TABLE] if entry.values else ()), *facts.flags),
                values={**facts.values, **entry.values},
            )
    return images, refusals


def check_choice(choice: str) -> None:
    """Raises UserError unless `choice` is "middle", "all" or "every:N" with N ≥ 1."""
    if not re.fullmatch(r"middle|all|every:[1-9]\d*", choice):
        raise UserError(f"--frames {choice}: choose middle, all, or every:N, e.g. every:10.")


def choose_frames(rows: Sequence[Row], choice: str) -> tuple[Sample, ...]:
    """Lists the chosen frames, file by file.

    `choice` is "middle", one frame per file; "all"; or "every:N", every N-th frame, centred in the
    file, at least one. For example, of 30 frames "every:10" chooses 4, 14 and 24.
    """
    check_choice(choice)

    def chosen(count: int) -> Sequence[int | None]:
        if choice == "middle":
            return (None,)
        step = 1 if choice == "all" else int(choice.partition(":")[2])
        return range((count - 1) % step // 2, count, step)

    return tuple(
        Sample(row.path, number, frame)
        for number, row in enumerate(rows)
        for frame in chosen(row.frames)
    )
