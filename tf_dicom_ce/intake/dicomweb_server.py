"""A DICOMweb service over HTTP: searches and files, asked for again until they are whole."""

import contextlib
import dataclasses
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tf_dicom_ce.errors import UserError, missing
from tf_dicom_ce.intake.archive import LOOPBACK, GoneError, RefusedError
from tf_dicom_ce.intake.instance_files import writing

if TYPE_CHECKING:
    from requests import Response

_TOKEN, _USER, _PASSWORD, _UNENCRYPTED = (
    f"TF_DICOM_CE_PACS_{name}" for name in ("TOKEN", "USER", "PASSWORD", "UNENCRYPTED")
)
_REMEDY = "give the address of a DICOMweb service, e.g. https://host/dicom-web"
_JSON = "application/dicom+json"
_XML = re.compile(r"(application|text)/(dicom\+)?xml\b", re.IGNORECASE)
# As stored: by default a server may decompress to Explicit VR Little Endian.
_FILE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# Packing takes Orthanc five times as long as sending the pixels as they are.
_PLAIN = {"Accept-Encoding": "identity"}
_CHUNK = 1 << 17
_TIMEOUT = (10, 60)
_ATTEMPTS = 5
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
# The whole server is the trouble, not the one thing asked for.
_BUSY = (408, 429, 502, 503, 504)
# What servers answer behind the last page of a search.
_NO_MORE = (400, 404, 410, 416)
_ROUND = 50  # rows


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What the PACS asks for: a bearer token, or a user and a password, or nothing."""

    token: str = dataclasses.field(default="", repr=False)
    user: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)
    unencrypted: bool = dataclasses.field(default=False, repr=False)  # may they be read on the way?

    @classmethod
    def from_environment(cls) -> "Credentials":
        """Reads TF_DICOM_CE_PACS_TOKEN, or TF_DICOM_CE_PACS_USER and TF_DICOM_CE_PACS_PASSWORD.

        TF_DICOM_CE_PACS_UNENCRYPTED=yes lets them go over http.
        """
        names = (_TOKEN, _USER, _PASSWORD, _UNENCRYPTED)
        token, user, password, word = (os.environ.get(name, "").strip() for name in names)
        if not token and bool(user) != bool(password):
            raise UserError(f"set {_USER} and {_PASSWORD} together, or neither")
        if word not in ("", "yes"):
            raise UserError(f"{_UNENCRYPTED} is {word}; set it to yes, or not at all")
        return cls(token, user, password, word == "yes")


def checked_address(url: str) -> str:
    """The address without a slash at its end; a UserError if it is none, or holds a password."""
    if "@" in url:
        raise UserError(
            f"the address holds a user or a password; never on the command line: set {_USER} and "
            f"{_PASSWORD} in the environment"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url:
        raise UserError(f"the address is none of the web, or ends in a query; {_REMEDY}")
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and not Path(bundle).exists():
        raise UserError(f"REQUESTS_CA_BUNDLE is {bundle}, which does not exist")
    return url.rstrip("/")


def travels_unencrypted(url: str) -> bool:
    """Tells whether what is sent to this address can be read on its way."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "dicom") and parts.hostname not in LOOPBACK


class _StoppedError(Exception):
    """Nobody waits for the answer any more."""


class _CutError(Exception):
    """An answer ended too early."""


class Server:
    """A DICOMweb service, for several threads; leaving its `with` block closes it."""

    def __init__(self, url: str, credentials: Credentials = Credentials()):
        """Connects to nothing yet; raises a UserError if a library is missing or `url` is bad."""
        try:
            import python_multipart  # noqa: F401
            import requests
        except ModuleNotFoundError as error:
            raise missing(error.name, "pacs") from None
        self.url = checked_address(url)
        given = credentials.token or credentials.user
        if given and travels_unencrypted(url) and not credentials.unencrypted:
            raise UserError(
                f"{self.url}: the credentials would travel unencrypted. Give an https address, or "
                f"one of this machine that a tunnel encrypts; or set {_UNENCRYPTED}=yes."
            )
        self._stopped, self._has_warned = threading.Event(), threading.Event()
        self._session = requests.Session()
        if self.url.startswith("https:"):
            del self._session.adapters["http://"]  # so that no redirect leads there

        def bearer(request: Any) -> Any:
            if credentials.token:
                request.headers["Authorization"] = f"Bearer {credentials.token}".encode()
            return request

        # A header would give way to the user's .netrc file, and so would nothing.
        self._session.auth = bearer
        if credentials.user and not credentials.token:
            self._session.auth = (credentials.user.encode(), credentials.password.encode())

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._session.close()

    def search(self, path: str, key: str, filters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """All pages of a search, e.g. of "/studies": rows in DICOM JSON by the value of a tag.

        Raises a GoneError if there is nothing at `path`, a UserError if the service is no use.
        """
        rows: dict[str, dict[str, Any]] = {}
        # No limit is asked for: the server's own is the one it can count by. Orthanc 1.10 finds
        # nothing behind the first page if given one together with ModalitiesInStudy.
        offset, more = 0, False
        while True:
            params = {**filters, "offset": offset} if offset else filters
            try:
                page, says_more = self._ask(path, _JSON, _read_page, params=params)
            except RefusedError as error:
                if not (offset and error.status in _NO_MORE):
                    if isinstance(error, GoneError):
                        raise
                    raise UserError(f"{self.url} refused a search: {error}; {_REMEDY}") from None
                page, says_more = [], False
            known = len(rows)
            rows |= {value(row, key): row for row in page}
            if len(rows) == known:
                break
            offset, more = offset + len(page), says_more
        self._require_whole(page, more)
        rows.pop("", None)
        return rows

    def _require_whole(self, last: Sequence[Any], more: bool) -> None:
        """Looks at the end of a search: its last page, and whether one more was announced."""
        if more:
            raise UserError(
                f"{self.url} says that it has more than it gives; narrow the dates, so that every "
                "answer is whole"
            )
        # Some servers ignore the offset, as Orthanc does below a study. What they gave is all,
        # unless they have a limit as well, which is a round number.
        if last and len(last) % _ROUND == 0 and not self._has_warned.is_set():
            self._has_warned.set()
            print(
                f"{self.url} gives the same {len(last)} rows of a search again. If it holds more, "
                "narrow the dates.",
                file=sys.stderr,
            )

    def save(self, path: str, file: Path) -> None:
        """Fetches an instance as the server stores it, block by block; half of it if this fails.

        Raises a RefusedError if the server does not give it, a UserError if the service is no use.
        """

        def read(response: "Response") -> None:
            with writing(file) as output:
                self._copy_part(response, output.write)
                if not output.tell():
                    raise RefusedError("empty answer")

        self._ask(path, _FILE, read)

    def send(self, path: str, content: bytes, kind: str) -> tuple[int, list[dict[str, Any]]]:
        """Posts a body of Content-Type `kind`, that may arrive twice, until the server has it.

        Raises as `search` does, and a RefusedError if the server does not take it. Returns the
        status, 200, 202 or 409, and the answer in DICOM JSON; empty if the server said nothing, or
        said in XML that it took all.
        """

        def read(response: "Response") -> tuple[int, list[dict[str, Any]]]:
            status, told = response.status_code, response.headers.get("Content-Type", "")
            if status not in (200, 202, 409):
                raise RefusedError(f"HTTP {status}")
            if "json" in told:
                return status, _read_rows(response)
            if status != 200:  # which instances it is about, only JSON tells
                raise RefusedError(f"HTTP {status}")
            # A proxy's page, to log in or of an error, is not what a store answers.
            if response.content.strip() and not _XML.match(told):
                raise GoneError("an answer that is none of STOW-RS")
            return status, []

        request = {"data": content, "headers": {"Content-Type": kind}, "allow_redirects": False}
        return self._ask(path, _JSON, read, "POST", (409,), **request)

    def _ask(
        self,
        path: str,
        accept: str,
        read: "Callable[[Response], Any]",
        method: str = "GET",
        read_too: Sequence[int] = (),
        headers: Mapping[str, str] = MappingProxyType({}),
        **request: Any,
    ) -> Any:
        """Asks until `read` got through the whole answer, also of statuses of 400 and more."""
        import requests
        from urllib3.exceptions import InvalidHeader
        from urllib3.util import Retry

        headers = {"Accept": accept, **_PLAIN, **headers}
        request |= {"headers": headers, "timeout": _TIMEOUT, "stream": True}
        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            asked_pause = 0.0
            try:
                with self._session.request(method, self.url + path, **request) as response:
                    status = response.status_code
                    if status < 400 or status in read_too:
                        return read(response)
                with contextlib.suppress(InvalidHeader):
                    asked_pause = min(Retry().get_retry_after(response.raw) or 0.0, _LONGEST_PAUSE)
                failure = f"HTTP {status}"
                if status == 401 or (status == 403 and accept == _JSON):
                    raise UserError(
                        f"{self.url} refused the credentials ({failure}); set {_TOKEN}, or {_USER} "
                        f"and {_PASSWORD}, in the environment"
                    )
                if status in (404, 410):
                    raise GoneError(failure, status)
                if status < 500 and status not in _BUSY:
                    raise RefusedError(failure, status)
            except _CutError:
                failure, status = "answer cut off", None
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
                if "No connection adapters" in str(error):
                    raise UserError(
                        f"{self.url} redirects to an address that is not encrypted; have it "
                        "redirect to https, or give the address that it should be asked at"
                    ) from None
                raise UserError(f"{self.url} is no address of the web; {_REMEDY}") from None
            except requests.RequestException as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise UserError(
                        f"{self.url} has a certificate that is not trusted; name the file with the "
                        "certificate of its authority in the environment as REQUESTS_CA_BUNDLE"
                    ) from None
                failure, status = type(error).__name__, None
            if attempt < _ATTEMPTS and self._stopped.wait(max(pause, asked_pause)):
                raise _StoppedError
            pause *= 2
        if status is not None and status not in _BUSY:
            raise RefusedError(failure)
        raise UserError(
            f"{self.url} failed {_ATTEMPTS} times in a row ({failure}); check the address and the "
            "network, and start again to go on where it stopped"
        )

    def _copy_part(self, response: "Response", write: Callable[[bytes], object]) -> None:
        """Copies the file out of its MIME wrapping."""
        from python_multipart import exceptions, multipart

        kind, options = multipart.parse_options_header(response.headers.get("Content-Type"))
        parser, feed = None, write
        try:
            if kind == b"multipart/related" and b"boundary" in options:
                callbacks = {"on_part_data": lambda data, start, end: write(data[start:end])}
                parser = multipart.MultipartParser(options[b"boundary"], callbacks)
                feed = parser.write
            elif kind != b"application/dicom":
                raise RefusedError("the answer is not a DICOM file")
            for chunk in response.iter_content(_CHUNK):
                if self._stopped.is_set():
                    raise _StoppedError
                feed(chunk)
        except exceptions.FormParserError:
            raise _CutError from None
        # A connection that was closed can look like the end of the answer.
        if parser and parser.state != multipart.MultipartState.END:
            raise _CutError


def value(row: dict[str, Any], tag: str) -> str:
    """The first value of an element in DICOM JSON, "" if it has none."""
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0] or "") if isinstance(values, list) and values else ""


def _read_page(response: "Response") -> tuple[list[dict[str, Any]], bool]:
    """Rows, and whether the server says that there are more (PS3.18, 8.3.4.4: Warning 299)."""
    warning = response.headers.get("Warning", "")
    return _read_rows(response), "299" in warning and "additional results" in warning


def _read_rows(response: "Response") -> list[dict[str, Any]]:
    try:
        # Nothing is also said by no content, and by null.
        rows = response.json() if response.content.strip() else None
    except ValueError:
        raise RefusedError("the answer is not DICOM JSON") from None
    rows = [rows] if isinstance(rows, dict) else rows or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RefusedError("the answer is not DICOM JSON")
    return rows
