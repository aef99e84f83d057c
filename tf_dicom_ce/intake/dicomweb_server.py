"""Talks to a DICOMweb service over HTTP; repeats requests until an answer is complete."""

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
from tf_dicom_ce.intake.archive import ATTEMPTS, LOOPBACK, GoneError, RefusedError, failed
from tf_dicom_ce.intake.instance_files import writing

if TYPE_CHECKING:
    from requests import Response

_TOKEN, _USER, _PASSWORD, _UNENCRYPTED = (
    f"TF_DICOM_CE_PACS_{name}" for name in ("TOKEN", "USER", "PASSWORD", "UNENCRYPTED")
)
_REMEDY = "give the address of a DICOMweb service, e.g. https://host/dicom-web"
_JSON = "application/dicom+json"
_XML = re.compile(r"(application|text)/(dicom\+)?xml\b", re.IGNORECASE)
# As stored: by default a server may decompress files to Explicit VR Little Endian.
_FILE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# No compression: it takes Orthanc five times as long as sending plain pixels.
_PLAIN = {"Accept-Encoding": "identity"}
_CHUNK = 1 << 17
_TIMEOUT = (10, 60)
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
# These statuses concern the whole server, not the one thing asked for.
_BUSY = (408, 429, 502, 503, 504)
# Servers answer with one of these after the last page of a search.
_NO_MORE = (400, 404, 410, 416)
_ROUND = 50  # rows; limits of servers are multiples of it


@dataclasses.dataclass(frozen=True)
class Credentials:
    """Credentials for a PACS: a bearer token, or user and password, or nothing."""

    token: str = dataclasses.field(default="", repr=False)
    user: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)
    unencrypted: bool = dataclasses.field(default=False, repr=False)  # allow http

    @classmethod
    def from_environment(cls) -> "Credentials":
        """Reads TF_DICOM_CE_PACS_TOKEN, or TF_DICOM_CE_PACS_USER and TF_DICOM_CE_PACS_PASSWORD.

        TF_DICOM_CE_PACS_UNENCRYPTED=yes allows to send them over http.
        """
        names = (_TOKEN, _USER, _PASSWORD, _UNENCRYPTED)
        token, user, password, word = (os.environ.get(name, "").strip() for name in names)
        if not token and bool(user) != bool(password):
            raise UserError(f"set {_USER} and {_PASSWORD} together, or neither")
        if word not in ("", "yes"):
            raise UserError(f"{_UNENCRYPTED} is {word}; set it to yes, or unset it")
        return cls(token, user, password, word == "yes")


def checked_address(url: str) -> str:
    """Returns the address without a final slash; UserError if it is bad or holds a password."""
    if "@" in url:
        raise UserError(
            "the address holds a user or a password, which do not belong on the command line: set "
            f"{_USER} and {_PASSWORD} in the environment"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url:
        raise UserError(f"this is no web address, or it has a query; {_REMEDY}")
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and not Path(bundle).exists():
        raise UserError(f"REQUESTS_CA_BUNDLE is {bundle}, which does not exist")
    return url.rstrip("/")


def travels_unencrypted(url: str) -> bool:
    """Tells whether others could read what is sent to this address."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "dicom") and parts.hostname not in LOOPBACK


class _StoppedError(Exception):
    """The service was closed: nobody waits for the answer."""


class _CutError(Exception):
    """An answer ended early."""


class Server:
    """A DICOMweb service; several threads may use it; a `with` block closes it."""

    def __init__(self, url: str, credentials: Credentials = Credentials()):
        """Does not connect yet; UserError if a library is missing or `url` is bad."""
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
                f"the local end of an encrypted tunnel; or set {_UNENCRYPTED}=yes."
            )
        self._stopped, self._has_warned = threading.Event(), threading.Event()
        self._session = requests.Session()
        if self.url.startswith("https:"):
            del self._session.adapters["http://"]  # so that no redirect leads to http

        def bearer(request: Any) -> Any:
            if credentials.token:
                request.headers["Authorization"] = f"Bearer {credentials.token}".encode()
            return request

        # Set as auth: .netrc would replace a header, and would be used without any auth.
        self._session.auth = bearer
        if credentials.user and not credentials.token:
            self._session.auth = (credentials.user.encode(), credentials.password.encode())

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._session.close()

    def search(self, path: str, key: str, filters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns all pages of a search: value of the element `key` to row in DICOM JSON.

        Args:
            path: What to search, e.g. "/studies".
            key: Tag of the UID that identifies a row.
            filters: Query parameters.

        Raises:
            GoneError: `path` does not exist.
            UserError: The service cannot be used.
        """
        rows: dict[str, dict[str, Any]] = {}
        # Set no limit: the server knows its own. Given a limit and ModalitiesInStudy, Orthanc 1.10
        # finds nothing after the first page.
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
        """Checks that a search is complete, by its last page; `more` was announced after it."""
        if more:
            raise UserError(
                f"{self.url} says that it has more than it returns; narrow the dates, until every "
                "answer is complete"
            )
        # Some servers ignore the offset, for example Orthanc below a study. Their answer is
        # complete, unless they also have a limit, which is a round number.
        if last and len(last) % _ROUND == 0 and not self._has_warned.is_set():
            self._has_warned.set()
            print(
                f"{self.url} returned the same {len(last)} rows of a search twice. If it holds "
                "more, narrow the dates.",
                file=sys.stderr,
            )

    def save(self, path: str, file: Path) -> None:
        """Fetches an instance as the server stores it; the file is incomplete if this fails.

        Raises:
            RefusedError: The server does not give it.
            UserError: The service cannot be used.
        """

        def read(response: "Response") -> None:
            with writing(file) as output:
                self._copy_part(response, output.write)
                if not output.tell():
                    raise RefusedError("empty answer")

        self._ask(path, _FILE, read)

    def send(self, path: str, content: bytes, kind: str) -> tuple[int, list[dict[str, Any]]]:
        """Posts a body of Content-Type `kind` until the server has it; it may arrive twice.

        Returns:
            The status (200, 202 or 409) and the answer in DICOM JSON. The answer is empty if the
            server sent none, or said in XML that it took all.

        Raises:
            RefusedError: The server does not take it; GoneError: `path` is no such service.
            UserError: The service cannot be used.
        """

        def read(response: "Response") -> tuple[int, list[dict[str, Any]]]:
            status, told = response.status_code, response.headers.get("Content-Type", "")
            if status not in (200, 202, 409):
                raise RefusedError(f"HTTP {status}")
            if "json" in told:
                return status, _read_rows(response)
            if status != 200:  # only JSON tells which instances were refused
                raise RefusedError(f"HTTP {status}")
            # A proxy's login or error page is no answer of a store.
            if response.content.strip() and not _XML.match(told):
                raise GoneError("the answer is not of STOW-RS")
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
        """Asks until `read` has a complete answer; `read_too` are error statuses to read, too."""
        import requests
        from urllib3.exceptions import InvalidHeader
        from urllib3.util import Retry

        headers = {"Accept": accept, **_PLAIN, **headers}
        request |= {"headers": headers, "timeout": _TIMEOUT, "stream": True}
        pause = _FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
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
                        f"{self.url} redirects to an unencrypted address; make it redirect to "
                        "https, or give the https address itself"
                    ) from None
                raise UserError(f"{self.url} is no web address; {_REMEDY}") from None
            except requests.RequestException as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise UserError(
                        f"{self.url} has a certificate that is not trusted; set REQUESTS_CA_BUNDLE "
                        "in the environment to the file with its authority's certificate"
                    ) from None
                failure, status = type(error).__name__, None
            if attempt < ATTEMPTS and self._stopped.wait(max(pause, asked_pause)):
                raise _StoppedError
            pause *= 2
        if status is not None and status not in _BUSY:
            raise RefusedError(failure)
        raise failed(self.url, failure)

    def _copy_part(self, response: "Response", write: Callable[[bytes], object]) -> None:
        """Copies the file out of its multipart answer."""
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
        # A closed connection can look like the end of the answer.
        if parser and parser.state != multipart.MultipartState.END:
            raise _CutError


def value(row: dict[str, Any], tag: str) -> str:
    """Returns the first value of an element in DICOM JSON, or ""."""
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0] or "") if isinstance(values, list) and values else ""


def _read_page(response: "Response") -> tuple[list[dict[str, Any]], bool]:
    """Returns rows, and whether the server announces more (PS3.18 8.3.4.4: Warning 299)."""
    warning = response.headers.get("Warning", "")
    return _read_rows(response), "299" in warning and "additional results" in warning


def _read_rows(response: "Response") -> list[dict[str, Any]]:
    try:
        # An empty answer and null mean that there are no rows.
        rows = response.json() if response.content.strip() else None
    except ValueError:
        raise RefusedError("the answer is not DICOM JSON") from None
    rows = [rows] if isinstance(rows, dict) else rows or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RefusedError("the answer is not DICOM JSON")
    return rows
