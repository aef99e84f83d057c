"""A PACS to a folder of its ultrasound files, by DICOMweb."""

import calendar
import collections
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import hashlib
import itertools
import json
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rich.console import Console
from rich.progress import Progress

from tf_dicom_ce.dicom.quiet import muted
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.dicomweb_server import Credentials, GoneError, RefusedError, Server, value
from tf_dicom_ce.whole_files import sole

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _STUDY_DESCRIPTION, _COUNT = "00080060", "00081030", "00201208"
_AT_ONCE = 100  # studies that are listed, fetched and noted together
# A PACS answers late rather than slowly.
_THREADS = 4


@dataclasses.dataclass(frozen=True)
class Query:
    """Which instances to download; a UserError if it is not written as DICOM has it."""

    modality: str = "US"  # (0008,0060) Modality
    # Range of (0008,0020) Study Date, e.g. "20240101-20241231", "20240101-" or "20240101"; empty
    # for all.
    dates: str = ""
    # What (0008,1030) Study Description holds, in any case; matched as a whole if it is a shell
    # pattern, e.g. "*thyroid*"; empty for all.
    description: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Z0-9_]{1,16}", self.modality):
            raise UserError(f'modality "{self.modality}" is not a DICOM modality; give e.g. "US"')
        if self.dates and not _is_range(self.dates):
            raise UserError(
                f'dates "{self.dates}" are not a range of days; give e.g. "20240101-20241231", '
                '"20240101-" or "-20241231"'
            )

    @property
    def asked(self) -> str:
        """Modality and dates in words."""
        return f"of modality {self.modality}" + (f" and dates {self.dates}" if self.dates else "")

    def describes(self, description: str) -> bool:
        """Tells whether a study with this (0008,1030) Study Description is asked for."""
        pattern = self.description.lower()
        if not re.search(r"[*?[]", pattern):
            return pattern in description.lower()
        return fnmatch.fnmatchcase(description.lower(), pattern)


@dataclasses.dataclass(frozen=True)
class Download:
    """Instances of a query: those in the folder, those of them fetched now, those refused."""

    instances: int
    fetched: int
    skipped: int


def download(
    url: str, query: Query, credentials: Credentials, folder: Path, progress: bool = True
) -> Download:
    """Fetches every instance of a query, byte for byte as the server stores it.

    Studies are listed, fetched and noted in a journal beside the folder, some at a time, so that a
    download can be cut at any point and goes on where it was: an instance that is in the folder is
    not fetched again, and a study that is whole there, as the server counts its instances, is not
    even listed. Nothing is ever deleted but what was left half-written. The folder is made, for
    this user only, if there is none; its files are named after a digest of (0008,0018) SOP Instance
    UID.

    Raises:
        UserError: Nothing matches, or the service cannot be used; never quotes patient data.
    """
    server = Server(url, credentials)
    found, fetched, refusals = 0, 0, collections.Counter()
    try:
        with (
            muted("urllib3", "python_multipart"),  # which quote addresses with identifiers in them
            _alone(folder),
            server,
            Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
        ):
            studies = _find_studies(server, query)
            journal = _Journal(folder, query.modality)
            of_studies = bar.add_task("Studies", total=len(studies))
            of_instances = bar.add_task("Downloading", total=0)
            fetch = functools.partial(_fetch, server, folder)
            for start in range(0, len(studies), _AT_ONCE):
                part = list(itertools.islice(studies, start, start + _AT_ONCE))
                listed = {uid: names for uid in part if (names := journal.whole(uid, studies[uid]))}
                found += sum(map(len, listed.values()))
                rest = [uid for uid in part if uid not in listed]
                look = functools.partial(_list_study, server, query)
                instances = {
                    instance.uid: instance
                    for of_study in _side_by_side(look, rest)
                    for instance in of_study
                }
                missing = [i for i in instances.values() if not i.file(folder).exists()]
                bar.update(of_instances, total=len(missing), completed=0)
                refused = set()
                for instance, refusal in _side_by_side(fetch, missing):
                    if refusal:
                        refusals[refusal] += 1
                        refused.add(instance.study)
                    bar.advance(of_instances)
                found, fetched = found + len(instances), fetched + len(missing)
                journal.note(
                    {uid: studies[uid] for uid in rest if uid not in refused}, instances.values()
                )
                bar.advance(of_studies, len(part))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); make room or give another folder"
        ) from None
    if not found:
        raise UserError(
            f"{server.url} has {len(studies)} studies {query.asked}, but no instance in them"
        )
    skipped = refusals.total()
    if skipped == found:
        reasons = ", ".join(f"{number} by {reason}" for reason, number in refusals.items())
        raise UserError(f"{server.url} gave none of the {skipped} instances: refused {reasons}")
    return Download(found - skipped, fetched - skipped, skipped)


class _Instance(NamedTuple):
    study: str
    series: str
    uid: str

    @property
    def name(self) -> str:
        """No identifier stands in a path, for paths are printed."""
        return hashlib.sha256(self.uid.encode()).hexdigest()

    def file(self, folder: Path) -> Path:
        return _file(folder, self.name)


def _file(folder: Path, name: str) -> Path:
    return folder / name[:2] / f"{name[2:]}.dcm"


class _Journal:
    """Which studies are whole in a folder: a line a study, with digests in place of identifiers.

    `FOLDER.jsonl`, beside the folder.
    """

    def __init__(self, folder: Path, modality: str):
        self._folder, self._modality = folder, modality
        self._path = folder.with_name(f"{folder.name}.jsonl")  # beside: in it are images alone
        self._studies: dict[str, tuple[str, list[str]]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # cut off
                    study, count, names = json.loads(line)
                    self._studies[study] = (count, names)

    def whole(self, study: str, count: str) -> list[str]:
        """Names of a study's instances, if all that the server counts were fetched and are there.

        `count` is (0020,1208) Number of Study Related Instances; where it is not told, a study may
        have grown.
        """
        noted, names = self._studies.get(self._key(study), ("", []))
        there = count and noted == count and all(_file(self._folder, n).exists() for n in names)
        return names if there else []

    def note(self, studies: Mapping[str, str], instances: Iterable[_Instance]) -> None:
        """Notes studies, with their counts, whose instances are all there."""
        names = collections.defaultdict(list)
        for instance in instances:
            names[instance.study].append(instance.name)
        lines = [json.dumps([self._key(s), n, names[s]]) for s, n in studies.items() if n]
        if lines:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(("\n" + "\n".join(lines) + "\n").encode())  # a cut line stays alone
                file.flush()
                os.fsync(file.fileno())

    def _key(self, study: str) -> str:
        return hashlib.sha256(f"{self._modality} {study}".encode()).hexdigest()


def _find_studies(server: Server, query: Query) -> dict[str, str]:
    """UID of every study of the query, and how many instances the server counts in it, or ""."""
    filters = {"ModalitiesInStudy": query.modality, "includefield": [_COUNT]}
    if query.description:
        filters["includefield"].append(_STUDY_DESCRIPTION)
    studies = {}
    try:
        for dates in _months(query.dates):
            of_dates = {"StudyDate": dates} if dates else {}
            studies |= server.search("/studies", _STUDY, filters | of_dates)
    except GoneError as error:
        raise UserError(
            f"{server.url} has no DICOMweb ({error}); give the address whose /studies answers, "
            "e.g. https://host/dicom-web"
        ) from None
    if not studies:
        raise UserError(f"{server.url} has no study {query.asked}; ask for others")
    chosen = {
        uid: value(row, _COUNT)
        for uid, row in studies.items()
        if query.describes(value(row, _STUDY_DESCRIPTION))
    }
    if not chosen:
        raise UserError(
            f"{server.url} has {len(studies)} studies {query.asked}, none of them with a "
            f'description like "{query.description}"'
        )
    return chosen


def _months(dates: str) -> Iterator[str]:
    """A range of days month by month, so that no answer is longer than a server gives at once."""
    first, _, last = dates.partition("-")
    if not (first and last):
        yield dates
        return
    while first[:6] < last[:6]:
        year, month = int(first[:4]), int(first[4:6])
        yield f"{first}-{first[:6]}{calendar.monthrange(year, month)[1]}"
        first = f"{year + month // 12:04d}{month % 12 + 1:02d}01"
    yield f"{first}-{last}"


def _list_study(server: Server, query: Query, study: str) -> list[_Instance]:
    path, found = f"/studies/{quote(study, safe='')}/series", []
    # What is deleted meanwhile is not missed.
    with contextlib.suppress(GoneError):
        for series, row in server.search(path, _SERIES, {"Modality": query.modality}).items():
            if value(row, _MODALITY) in ("", query.modality):
                with contextlib.suppress(GoneError):
                    below = f"{path}/{quote(series, safe='')}/instances"
                    uids = server.search(below, _INSTANCE, {})
                    found += (_Instance(study, series, uid) for uid in uids)
    return found


def _fetch(server: Server, folder: Path, instance: _Instance) -> tuple[_Instance, str]:
    """Fetches one instance; returns it, and why the server would not give it, or ""."""
    file = instance.file(folder)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    part = file.with_suffix(".part")
    study, series, uid = (quote(name, safe="") for name in instance)
    try:
        server.save(f"/studies/{study}/series/{series}/instances/{uid}", part)
    except RefusedError as error:
        part.unlink(missing_ok=True)
        return instance, str(error)
    part.replace(file)
    return instance, ""


def _side_by_side(function: Callable, items: Sequence) -> Iterator:
    """What a function makes of each item, in any order, by threads that hold up nobody's end.

    Those of `concurrent.futures` would be waited for at an interrupt, and `ThreadPool` wants
    semaphores, which there are none of where /dev/shm is not the user's.
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


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other downloads out; sweeps away what one left half-written."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    busy = f"another download into {folder} is running; wait for its end, or stop it"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a network file system without locks
            stack.enter_context(sole(folder, busy))
        for part in folder.glob("??/*.part"):
            part.unlink()
        yield


def _is_range(dates: str) -> bool:
    """Tells whether this is a day, or a range of days of which one end may be open."""
    if not re.fullmatch(r"[0-9]{8}(-([0-9]{8})?)?|-[0-9]{8}", dates):
        return False
    with contextlib.suppress(ValueError):
        days = [datetime.datetime.strptime(d, "%Y%m%d") for d in dates.strip("-").split("-")]
        return days == sorted(days)
    return False
