"""Associates with an application entity (DIMSE); repeats associations that break off."""

import collections
import contextlib
import dataclasses
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from tf_dicom_ce.dicom.quiet import muted, quiet
from tf_dicom_ce.errors import UserError, missing
from tf_dicom_ce.intake.archive import ATTEMPTS, RefusedError, failed
from tf_dicom_ce.intake.instance_files import writing

if TYPE_CHECKING:
    from pynetdicom import Association
    from pynetdicom.events import Event

T = TypeVar("T")

_TITLE = "TF_DICOM_CE_PACS_AET"
#: Default AE title of this program.
OWN_TITLE = "TF-DICOM-CE"
_REMEDY = "give e.g. dicom://ARCHIVE@host:104"
_FIRST_PAUSE = 1.0
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 60
_PERMANENT = 1  # Result of an A-ASSOCIATE-RJ, PS3.8 9.3.4
SUCCESS, OUT_OF_RESOURCES, MISMATCH = 0x0000, 0xA700, 0xA900  # PS3.4 B.2.3


def own_title() -> str:
    """Returns our AE title: TF_DICOM_CE_PACS_AET, or the default."""
    return checked_title(os.environ.get(_TITLE, "").strip() or OWN_TITLE, _TITLE)


def checked_title(title: str, where: str) -> str:
    """Returns the AE title without outer spaces; UserError if it is illegal (PS3.5 6.2)."""
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title) or not title.strip():
        raise UserError(f"{where}: {title!r} is not an AE title; give 1 to 16 characters of ASCII")
    return title.strip()


@dataclasses.dataclass(frozen=True)
class Kind:
    """The purpose of an association."""

    what: str  # in words, for messages
    remedy: str  # if the other side does not offer it
    contexts: tuple[tuple[str, str], ...]  # abstract and transfer syntax; at most 128 pairs
    stored: tuple[str, ...] = ()  # SOP classes that the other side may store here


class BrokenError(Exception):
    """The association broke off, or no answer came."""


class Expected:
    """The one instance that the other side may store at the moment, and its file."""

    def __init__(self) -> None:
        self.uid, self.file, self.error = "", Path(), None

    def keep(self, event: "Event") -> int:
        """Handles a C-STORE; returns its status."""
        if event.request.AffectedSOPInstanceUID != self.uid:
            return MISMATCH
        try:
            with writing(self.file) as output:
                output.write(event.encoded_dataset())
        except OSError as error:
            self.error = error
            return OUT_OF_RESOURCES
        return SUCCESS


class Line(NamedTuple):
    """An association, and the instance that may be stored over it."""

    association: "Association"
    expected: Expected


class Peer:
    """An application entity; several threads may use it; a `with` block ends its associations.

    Attributes:
        url: Its address, `dicom://AET@HOST:PORT`.
    """

    def __init__(self, url: str):
        """Does not connect yet; UserError if a library is missing or `url` is bad."""
        try:
            from pynetdicom import AE
        except ModuleNotFoundError as error:
            raise missing(error.name, "pacs") from None
        self.url, self._address = url, checked_address(url)
        self._ae = AE(own_title())
        self._ae.acse_timeout = self._ae.connection_timeout = _CONNECT_SECONDS
        self._ae.dimse_timeout = self._ae.network_timeout = _ANSWER_SECONDS
        self._idle: dict[Kind, list[Line]] = collections.defaultdict(list)
        self._stopped, self._silence = threading.Event(), contextlib.ExitStack()

    def __enter__(self) -> "Peer":
        self._silence.enter_context(muted("pynetdicom"))  # its log quotes identifiers
        self._silence.enter_context(quiet())
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._stopped.set()
        idle = {line.association for lines in self._idle.values() for line in lines}
        for association in self._ae.active_associations:
            if association in idle and kind is None:
                association.release()
            else:
                association.abort()
        self._silence.close()

    def ask(self, kind: Kind, work: Callable[[Line], T]) -> T:
        """Does work over an association; repeats it over a new one if the association breaks off.

        Raises:
            UserError: Nobody answers, the association is refused, or it broke off each time.
        """
        pause, failure = _FIRST_PAUSE, ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._line(kind) as line:
                    return work(line)
            except BrokenError as error:
                failure = str(error)
            if attempt < ATTEMPTS and self._stopped.wait(pause):
                break
            pause *= 2
        raise failed(self.url, failure)

    @contextlib.contextmanager
    def _line(self, kind: Kind) -> Iterator[Line]:
        """Yields an idle association of this kind, or a new one."""
        idle = self._idle[kind]
        line = None
        with contextlib.suppress(IndexError):
            while not (line and line.association.is_established):
                line = idle.pop()
        if not (line and line.association.is_established):
            line = self._associate(kind)
        try:
            yield line
        except RefusedError:
            idle.append(line)
            raise
        except BaseException as error:
            line.association.abort()
            if isinstance(error, RuntimeError):  # from pynetdicom: the association has ended
                raise BrokenError("association ended") from None
            raise
        idle.append(line)

    def _associate(self, kind: Kind) -> Line:
        from pynetdicom import build_context, build_role, evt

        title, host, port = self._address
        expected = Expected()
        association = self._ae.associate(
            host,
            port,
            contexts=[build_context(*pair) for pair in kind.contexts],
            ae_title=title,
            ext_neg=[build_role(one, scp_role=True) for one in kind.stored],
            evt_handlers=[(evt.EVT_C_STORE, expected.keep)],
        )
        if association.is_established:
            return Line(association, expected)
        if association.is_rejected:
            answer = association.acceptor.primitive
            if answer.result == _PERMANENT:
                raise UserError(
                    f"{self.url} refused the association ({answer.reason_str.lower()}); this "
                    f"program's AE title is {self._ae.ae_title}: register it there, or set "
                    f"{_TITLE} to a registered title; check the title in the address, too"
                )
            raise BrokenError(f"association refused: {answer.reason_str.lower()}")
        if association.rejected_contexts:
            raise UserError(f"{self.url} does not offer {kind.what}; {kind.remedy}")
        raise BrokenError("no association")


def checked_address(url: str) -> tuple[str, str, int]:
    """Splits `dicom://AET@HOST:PORT` into its parts; UserError for other forms."""
    try:
        parts = urlsplit(url)
        found = unquote(parts.username or ""), parts.hostname, parts.port
    except ValueError:
        found = "", None, None
    if not all(found) or parts.password or parts.path.strip("/") or parts.query or parts.fragment:
        raise UserError(f"{url} is not the address of a DICOM archive; {_REMEDY}")
    return checked_title(found[0], url), found[1], found[2]
