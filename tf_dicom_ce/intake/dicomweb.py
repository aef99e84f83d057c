"""A PACS to a folder of its ultrasound files, by DICOMweb."""

import collections
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import hashlib
import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
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
_MODALITY, _STUDY_DESCRIPTION = "00080060", "00081030"
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

    An instance that is in the folder already is not fetched again, so that a download which was
    stopped goes on where it was. Nothing is ever deleted but what was left half-written. The folder
    is made, for this user only, if there is none; its files are named after a digest of (0008,0018)
    SOP Instance UID.

    Raises:
        UserError: Nothing matches, or the service cannot be used; never quotes patient data.
    """
    server = Server(url, credentials)
    try:
        with (
            muted("urllib3", "python_multipart"),  # which quote addresses with identifiers in them
            _alone(folder),
            server,
            Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
        ):
            found = _find(server, query, bar)
            missing = [instance for instance in found if not instance.file(folder).exists()]
            present = len(found) - len(missing)
            task = bar.add_task("Downloading", total=len(found), completed=present)
            refusals: collections.Counter[str] = collections.Counter()
            fetch = functools.partial(_fetch, server, folder)
            for refusal in _side_by_side(fetch, missing):
                refusals.update([refusal] if refusal else [])
                bar.advance(task)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); make room or give another folder"
        ) from None
    skipped = refusals.total()
    if skipped == len(found):
        reasons = ", ".join(f"{number} by {reason}" for reason, number in refusals.items())
        raise UserError(f"{server.url} gave none of the {skipped} instances: refused {reasons}")
    return Download(len(found) - skipped, len(missing) - skipped, skipped)


class _Instance(NamedTuple):
    study: str
    series: str
    uid: str

    def file(self, folder: Path) -> Path:
        """No identifier stands in a path, for paths are printed."""
        digest = hashlib.sha256(self.uid.encode()).hexdigest()
        return folder / digest[:2] / f"{digest[2:]}.dcm"


def _find(server: Server, query: Query, bar: Progress) -> list[_Instance]:
    """All instances of the query, each once."""
    filters = {"ModalitiesInStudy": query.modality}
    asked = f"of modality {query.modality}"
    if query.dates:
        filters["StudyDate"] = query.dates
        asked += f" and dates {query.dates}"
    if query.description:
        filters["includefield"] = _STUDY_DESCRIPTION
    try:
        studies = server.search("/studies", _STUDY, filters)
    except GoneError as error:
        raise UserError(
            f"{server.url} has no DICOMweb ({error}); give the address whose /studies answers, "
            "e.g. https://host/dicom-web"
        ) from None
    if not studies:
        raise UserError(f"{server.url} has no study {asked}; ask for others")
    chosen = [
        uid for uid, row in studies.items() if query.describes(value(row, _STUDY_DESCRIPTION))
    ]
    if not chosen:
        raise UserError(
            f"{server.url} has {len(studies)} studies {asked}, none of them with a description "
            f'like "{query.description}"'
        )
    task = bar.add_task("Listing studies", total=len(chosen))
    found = {}
    for instances in _side_by_side(functools.partial(_list_study, server, query), chosen):
        found.update((instance.uid, instance) for instance in instances)
        bar.advance(task)
    if not found:
        raise UserError(f"{server.url} has {len(chosen)} studies {asked}, but no instance in them")
    return list(found.values())


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


def _fetch(server: Server, folder: Path, instance: _Instance) -> str:
    """Fetches one instance; returns why the server would not give it, or ""."""
    file = instance.file(folder)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    part = file.with_suffix(".part")
    study, series, uid = (quote(name, safe="") for name in instance)
    try:
        server.save(f"/studies/{study}/series/{series}/instances/{uid}", part)
    except RefusedError as error:
        part.unlink(missing_ok=True)
        return str(error)
    part.replace(file)
    return ""


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
