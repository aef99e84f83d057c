"""Downloads instances of an archive into a folder; an interrupted download continues."""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.archive import Archive, GoneError, Instance, RefusedError
from tf_dicom_ce.intake.instance_files import alone, file_of, holds, name_of
from tf_dicom_ce.intake.query import Query
from tf_dicom_ce.progress import Bar

_AT_ONCE = 100  # studies to list, fetch and note together
_THREADS = 4  # a PACS is slow to begin an answer, so ask for several


@dataclasses.dataclass(frozen=True)
class Download:
    """Numbers of instances: in the folder, fetched now, and refused by the archive."""

    instances: int
    fetched: int
    skipped: int


def download(archive: Archive, query: Query, folder: Path, progress: bool = True) -> Download:
    """Fetches every instance of a query as the archive stores it.

    The download may be interrupted at any point, and then continues. Instances in the folder are
    not fetched again. Studies are listed, fetched and noted in a journal beside the folder, some at
    a time. A noted study is not even listed again while its files and the archive's count agree.
    Only half-written files are deleted. Files are named by a digest of (0008,0018) SOP Instance
    UID. The folder is made if missing; only this user can read it.

    Raises:
        UserError: Nothing matches, or the archive cannot be used; never quotes patient data.
    """
    busy = f"another download into {folder} is running; wait for its end, or stop it"
    found, fetched, refusals = 0, 0, collections.Counter()
    try:
        with (
            alone(folder, busy),
            Bar(progress) as bar,
        ):
            studies = _find_studies(archive, query)
            journal = _Journal(folder, query.modality)
            task = bar.add_task("Studies", total=len(studies))
            for start in range(0, len(studies), _AT_ONCE):
                part = list(itertools.islice(studies, start, start + _AT_ONCE))
                whole = {uid: names for uid in part if (names := journal.whole(uid, studies[uid]))}
                rest = [uid for uid in part if uid not in whole]
                instances = _list_studies(archive, query, rest)
                missing = [i for i in instances if not _file(folder, i).exists()]
                refused = _fetch_all(archive, folder, missing, bar)
                refusals.update(refused.values())
                found += sum(map(len, whole.values())) + len(instances)
                fetched += len(missing) - len(refused)
                lacking = {instance.study for instance in refused}
                complete = {uid: studies[uid] for uid in rest if uid not in lacking}
                journal.note(complete, instances)
                bar.advance(task, len(part))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); free space or give another folder"
        ) from None
    if not found:
        raise UserError(
            f"{archive.url} has {len(studies)} studies {query.asked}, but no instance in them"
        )
    skipped = refusals.total()
    if skipped == found:
        reasons = ", ".join(f"{number} by {reason}" for reason, number in refusals.items())
        raise UserError(f"{archive.url} gave none of the {skipped} instances: refused {reasons}")
    return Download(found - skipped, fetched, skipped)


def _file(folder: Path, instance: Instance) -> Path:
    return file_of(folder, name_of(instance.uid))


class _Journal:
    """Notes the studies that are complete in a folder: one line per study, in FOLDER.jsonl.

    Digests replace identifiers.
    """

    def __init__(self, folder: Path, modality: str):
        self._folder, self._modality = folder, modality
        self._path = folder.with_name(f"{folder.name}.jsonl")  # the folder holds only images
        self._studies: dict[str, tuple[str, list[str]]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # cut off
                    study, count, names = json.loads(line)
                    self._studies[study] = (count, names)

    def whole(self, study: str, count: str) -> list[str]:
        """Returns names of a study's instances if all were fetched and exist; else [].

        `count` is (0020,1208) Number of Study Related Instances; without it the study may have
        grown, so it does not count as complete.
        """
        noted, names = self._studies.get(self._key(study), ("", []))
        there = count and noted == count and all(file_of(self._folder, n).exists() for n in names)
        return names if there else []

    def note(self, studies: Mapping[str, str], instances: Iterable[Instance]) -> None:
        """Notes complete studies, with their counts."""
        names = collections.defaultdict(list)
        for instance in instances:
            names[instance.study].append(name_of(instance.uid))
        lines = [json.dumps([self._key(s), n, names[s]]) for s, n in studies.items() if n]
        if lines:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                # It begins with a line break: the last line may have been cut off.
                file.write(("\n" + "\n".join(lines) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())

    def _key(self, study: str) -> str:
        return hashlib.sha256(f"{self._modality} {study}".encode()).hexdigest()


def _find_studies(archive: Archive, query: Query) -> dict[str, str]:
    """Returns UID to number of instances, or "", of every study of the query."""
    studies = {}
    for dates in query.months():
        of_dates = {"StudyDate": dates} if dates else {}
        studies |= archive.find((), {"ModalitiesInStudy": query.modality} | of_dates)
    if not studies:
        raise UserError(f"{archive.url} has no study {query.asked}; change the query")
    chosen = {
        uid: row["NumberOfStudyRelatedInstances"]
        for uid, row in studies.items()
        if query.describes(row["StudyDescription"])
    }
    if not chosen:
        raise UserError(
            f"{archive.url} has {len(studies)} studies {query.asked}, none of them with a "
            f'description like "{query.description}"'
        )
    return chosen


def _list_studies(archive: Archive, query: Query, studies: Sequence[str]) -> list[Instance]:
    """Lists the instances of some studies, each once."""

    def look(study: str) -> list[Instance]:
        found = []
        # Studies and series may be deleted meanwhile.
        with contextlib.suppress(GoneError):
            for series, told in archive.find((study,), {"Modality": query.modality}).items():
                if told["Modality"] in ("", query.modality):
                    with contextlib.suppress(GoneError):
                        rows = archive.find((study, series), {}).items()
                        found += (Instance(study, series, u, row["SOPClassUID"]) for u, row in rows)
        return found

    listed = {i.uid: i for of_study in _side_by_side(look, studies) for i in of_study}
    return list(listed.values())


def _fetch_all(
    archive: Archive, folder: Path, missing: Sequence[Instance], bar: Bar
) -> dict[Instance, str]:
    """Fetches instances; returns those that the archive refused, and why."""
    fetch = functools.partial(_fetch, archive, folder)
    task = bar.add_task("Downloading", total=len(missing))
    refused = {}
    for instance, refusal in _side_by_side(fetch, missing):
        if refusal:
            refused[instance] = refusal
        bar.advance(task)
    bar.remove_task(task)
    return refused


def _fetch(archive: Archive, folder: Path, instance: Instance) -> tuple[Instance, str]:
    """Fetches one instance; returns it, and why the archive refused it, or ""."""
    file = _file(folder, instance)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    part = file.with_suffix(".part")
    try:
        archive.save(instance, part)
        if not holds(part, instance.uid):
            raise RefusedError("another answer than this instance")
    except RefusedError as error:
        part.unlink(missing_ok=True)
        return instance, str(error)
    part.replace(file)
    return instance, ""


def _side_by_side(function: Callable, items: Sequence) -> Iterator:
    """Yields the function's result for each item, in any order, from daemon threads.

    At an interrupt, Python would wait for threads of `concurrent.futures`. `ThreadPool` needs
    semaphores, which do not exist if the user cannot write to /dev/shm.
    """
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def work():
        with contextlib.suppress(queue.Empty):
            while True:
                item = waiting.get_nowait()
                try:
                    done.put((function(item), None))
                except BaseException as error:
                    done.put((None, error))

    for _ in range(_THREADS):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in items:
            result, error = done.get()
            if error:
                raise error
            yield result
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
