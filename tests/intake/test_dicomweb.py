"""Against a small DICOMweb server that can be told to misbehave."""

import base64
import fcntl
import functools
import io
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import dicomweb_server
from tf_dicom_ce.intake import download as downloading
from tf_dicom_ce.intake.dicomweb import Credentials, connect
from tf_dicom_ce.intake.download import Download
from tf_dicom_ce.intake.query import Query

BOUNDARY = "b" * 70
INSTANCE = r"/instances/[0-9.]+$"
NOBODY = Credentials()
UIDS = ("1.2.1.0", "1.2.1.1", "1.2.1.2")  # of study 1.2


@functools.cache
def instance(uid, text=""):
    """The bytes of a DICOM file of this SOP Instance UID."""
    dataset, file = Dataset(), io.BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.6.1", uid
    dataset.ImageComments = f"{text} of {uid}"
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


class Pacs(ThreadingHTTPServer):
    """Serves `studies`: UID -> (date, description, {series UID: (modality, {UID: bytes})})."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/dicom-web"
        self.studies = {}
        self.requests = []
        self.troubles = []
        self.page = None
        self.end = ""  # how it says that there is no more
        self.offset = self.filters = True
        self.multipart = True
        self.counts = False

    def add(self, study, description="US Liver", date="20240102", modality="US", instances=3):
        files = {f"{study}.1.{i}": instance(f"{study}.1.{i}") for i in range(instances)}
        self.studies[study] = (date, description, {f"{study}.1": (modality, files)})

    def trouble(self, pattern, *answers):
        """Answers the next requests for a path like `pattern` by calling these instead."""
        self.troubles.append((pattern, list(answers)))

    def fetched(self):
        return [path for path, _, _ in self.requests if re.search(INSTANCE, path)]

    def handle_error(self, *_):
        """A client that hangs up is no error."""


def within(dates, date):
    first, _, last = dates.partition("-")
    return (first or date) <= date <= (last or ("9" if "-" in dates else first) or date)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/dicom-web")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.requests.append((path, query, dict(self.headers)))
        for pattern, answers in self.server.troubles:
            if answers and re.search(pattern, path):
                return answers.pop(0)(self)
        names = path.split("/")[2:]
        try:
            return self.reply(names, query)
        except KeyError:
            return self.send(404)

    def reply(self, names, query):
        studies = self.server.studies
        filters = query if self.server.filters else {}
        if not names:
            rows = [
                {"0020000D": uid, "00081030": description, **self.count(series)}
                for uid, (date, description, series) in studies.items()
                if filters.get("ModalitiesInStudy") in {None, *(m for m, _ in series.values())}
                and within(filters.get("StudyDate", ""), date)
            ]
        elif len(names) == 2:
            rows = [
                {"0020000E": uid, "00080060": modality}
                for uid, (modality, _) in studies[names[0]][2].items()
                if filters.get("Modality", modality) == modality
            ]
        elif len(names) == 4:
            rows = [{"00080018": uid} for uid in studies[names[0]][2][names[2]][1]]
        else:
            return self.send_file(studies[names[0]][2][names[2]][1][names[4]])
        start = int(query.get("offset", 0)) if self.server.offset else 0
        if self.server.end and start >= len(rows):
            return answer_behind_the_last_page(self, self.server.end)
        rows = rows[start:][: self.server.page]
        body = [{tag: {"vr": "LO", "Value": [text]} for tag, text in row.items()} for row in rows]
        return self.send(200, json.dumps(body).encode(), "application/dicom+json")

    def count(self, series):
        number = sum(len(files) for _, files in series.values())
        return {"00201208": number} if self.server.counts else {}

    def send_file(self, content):
        if self.server.multipart:
            kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
            return self.send(200, wrapped(content), kind)
        return self.send(200, content, "application/dicom")

    def send(self, status, body=b"", kind="text/plain", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length != "unknown":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.wfile.flush()
            self.close_connection = True


def wrapped(content):
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return head + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def status(number, **headers):
    return lambda handler: handler.send(number, b"patient Doe", **headers)


def html(handler):
    handler.send(200, b"<html>Doe", "text/html")


def cut(handler):
    kind = f"multipart/related; boundary={BOUNDARY}"
    handler.send(200, wrapped(b"half" * 99)[:300], kind, length=10_000)


def cut_without_length(handler):
    kind = f"multipart/related; boundary={BOUNDARY}"
    handler.send(200, wrapped(b"half" * 99)[:300], kind, length="unknown")


def garbled(handler):
    handler.send(200, b"--other\r\n\r\nx", f"multipart/related; boundary={BOUNDARY}")


def hang_up(handler):
    handler.close_connection = True


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(dicomweb_server, "_FIRST_PAUSE", 0.01)
    for name in ("TOKEN", "USER", "PASSWORD", "UNENCRYPTED"):
        monkeypatch.delenv(f"TF_DICOM_CE_PACS_{name}", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def pacs(in_background):
    with in_background(Pacs()) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downloads"


def download(url, query, credentials, folder):
    with connect(url, credentials) as archive:
        return downloading.download(archive, query, folder, progress=False)


def fetch(pacs, folder, query=Query(), credentials=NOBODY):  # noqa: B008
    return download(pacs.url, query, credentials, folder)


def contents(folder):
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_files_are_the_servers_bytes(pacs, folder):
    pacs.add("1.2")
    pacs.add("1.3", instances=2)
    assert fetch(pacs, folder) == Download(5, 5, 0)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert contents(folder) == sorted(map(instance, [*UIDS, "1.3.1.0", "1.3.1.1"]))
    for path in files:
        assert re.fullmatch("[0-9a-f]{2}/[0-9a-f]{62}.dcm", path.relative_to(folder).as_posix())
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o777 == 0o700
    headers = pacs.requests[-1][2]
    assert headers["Accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert headers["Accept-Encoding"] == "identity"


def test_a_file_without_mime_wrapping(pacs, folder):
    pacs.add("1.2", instances=1)
    pacs.multipart = False
    assert fetch(pacs, folder) == Download(1, 1, 0)
    assert contents(folder) == [instance("1.2.1.0")]


def test_bytes_like_a_boundary(pacs, folder):
    content = instance("1.2.1.0", f"\r\n--{BOUNDARY[1:]}\r\n\r\n--\r" * 99)
    pacs.add("1.2", instances=1)
    pacs.studies["1.2"][2]["1.2.1"][1]["1.2.1.0"] = content
    fetch(pacs, folder)
    assert contents(folder) == [content]


def test_only_what_is_missing_is_fetched(pacs, folder):
    pacs.add("1.2")
    fetch(pacs, folder)
    pacs.requests.clear()
    assert fetch(pacs, folder) == Download(3, 0, 0)
    assert pacs.fetched() == []
    next(folder.rglob("*.dcm")).unlink()
    assert fetch(pacs, folder) == Download(3, 1, 0)
    assert len(pacs.fetched()) == 1
    del pacs.studies["1.2"][2]["1.2.1"][1]["1.2.1.1"]
    assert fetch(pacs, folder) == Download(2, 0, 0)
    assert len(contents(folder)) == 3


def test_a_whole_study_is_not_listed_again(pacs, folder):
    pacs.counts = True
    pacs.add("1.2")
    pacs.add("1.3", instances=2)
    assert fetch(pacs, folder) == Download(5, 5, 0)
    journal = folder.with_name("downloads.jsonl")
    assert journal.stat().st_mode & 0o777 == 0o600
    assert "1.2.1" not in journal.read_text()
    pacs.requests.clear()
    assert fetch(pacs, folder) == Download(5, 0, 0)
    assert [path for path, _, _ in pacs.requests] == ["/studies", "/studies"]  # the last is empty
    # One that has grown is listed, and only what is new is fetched; so is one that lost a file.
    pacs.studies["1.2"][2]["1.2.1"][1]["1.2.1.9"] = instance("1.2.1.9")
    pacs.requests.clear()
    assert fetch(pacs, folder) == Download(6, 1, 0)
    assert {path.split("/")[2] for path, _, _ in pacs.requests if path != "/studies"} == {"1.2"}
    next(folder.rglob("*.dcm")).unlink()
    assert fetch(pacs, folder) == Download(6, 1, 0)
    with journal.open("ab") as file:
        file.write(b'["cut of')
    assert fetch(pacs, folder) == Download(6, 0, 0)
    pacs.add("1.4")
    fetch(pacs, folder)
    pacs.requests.clear()
    assert fetch(pacs, folder) == Download(9, 0, 0)
    assert {path for path, _, _ in pacs.requests} == {"/studies"}


def test_a_study_of_which_something_was_refused_is_not_whole(pacs, folder):
    pacs.counts = True
    pacs.add("1.2")
    pacs.trouble(INSTANCE, status(403))
    assert fetch(pacs, folder) == Download(2, 2, 1)
    assert fetch(pacs, folder) == Download(3, 1, 0)


def test_studies_are_fetched_some_at_a_time(pacs, folder, monkeypatch):
    """What was noted before an end is not listed again."""
    monkeypatch.setattr(downloading, "_AT_ONCE", 2)
    pacs.counts = True
    for k in range(5):
        pacs.add(f"1.{k}", instances=1)
    pacs.trouble("1.3/series$", *[status(503)] * 9)
    with pytest.raises(UserError, match="503"):
        fetch(pacs, folder)
    assert len(contents(folder)) == 2
    pacs.troubles.clear()
    pacs.requests.clear()
    assert fetch(pacs, folder) == Download(5, 3, 0)
    listed = {path.split("/")[2] for path, _, _ in pacs.requests if path.endswith("/series")}
    assert listed == {"1.2", "1.3", "1.4"}


def test_a_range_is_asked_for_month_by_month(pacs, folder):
    for date in ("20231114", "20231115", "20231231", "20240229", "20240302", "20240303"):
        pacs.add(f"1.{date}", date=date, instances=1)
    assert fetch(pacs, folder, Query(dates="20231115-20240302")) == Download(4, 4, 0)
    asked = [query["StudyDate"] for path, query, _ in pacs.requests if path == "/studies"]
    assert list(dict.fromkeys(asked)) == [
        "20231115-20231130",
        "20231201-20231231",
        "20240101-20240131",
        "20240201-20240229",
        "20240301-20240302",
    ]


def test_what_was_left_half_written_is_swept_away(pacs, folder):
    pacs.add("1.2")
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / f"{'0' * 62}.part").write_bytes(b"half")
    (folder / "ab" / "mine.part").write_bytes(b"whole")
    fetch(pacs, folder)
    assert len(contents(folder)) == 4
    assert (folder / "ab" / "mine.part").exists()


@pytest.mark.parametrize("filters", [True, False])
def test_modality(pacs, folder, filters):
    pacs.filters = filters
    pacs.add("1.2")
    pacs.add("1.3", modality="CT")
    pacs.studies["1.2"][2]["1.2.2"] = ("CT", {"1.2.2.0": instance("1.2.2.0")})
    assert fetch(pacs, folder) == Download(3, 3, 0)


def test_dates(pacs, folder):
    pacs.add("1.2", date="20240102")
    pacs.add("1.3", date="20240103", instances=1)
    assert fetch(pacs, folder, Query(dates="20240103")) == Download(1, 1, 0)


@pytest.mark.parametrize(
    ("description", "number"),
    [("liver", 3), ("US*", 2), ("us ?iver", 2), ("liver*", 1), ("*", 4), ("", 4), ("[u]*r", 2)],
)
def test_description(pacs, folder, description, number):
    for study, text in (("1", "US Liver"), ("2", "LIVER, us"), ("3", "US LIVER"), ("4", "")):
        pacs.add(f"1.{study}", text, instances=1)
    assert fetch(pacs, folder, Query(description=description)).instances == number


def test_pages(pacs, folder):
    pacs.page = 2
    for study in range(5):
        pacs.add(f"1.{study}", instances=5)
    assert fetch(pacs, folder) == Download(25, 25, 0)


def test_the_offset_is_ignored(pacs, folder, capfd):
    """A repeated page ends the search; if a limit may have cut it, one line says so."""
    pacs.offset = False
    for study in range(5):
        pacs.add(f"1.{study}", instances=5)
    assert fetch(pacs, folder) == Download(25, 25, 0)
    assert capfd.readouterr().err == ""
    for study in range(2):
        pacs.add(f"2.{study}", instances=50)
    assert fetch(pacs, folder) == Download(125, 100, 0)
    assert capfd.readouterr().err.count("returned the same 50 rows of a search twice") == 1


def test_the_offset_is_ignored_by_a_server_that_has_more(pacs, folder):
    def first(handler):
        body = json.dumps([{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]).encode()
        warning = "299 pacs: There are 7 additional results that can be requested"
        handler.send(200, body, "application/dicom+json", Warning=warning)

    pacs.add("1.2")
    pacs.trouble("/studies$", first, first)
    with pytest.raises(UserError, match=r"has more than it returns; narrow the dates"):
        fetch(pacs, folder)
    pacs.requests.clear()
    pacs.trouble("/studies$", first)  # the second page is empty
    with pytest.raises(UserError, match=r"has more than it returns"):
        fetch(pacs, folder)
    assert len(pacs.requests) == 2


def answer_behind_the_last_page(handler, end):
    status, body = {"null": (200, b"null"), "empty": (200, b"")}.get(end, (end, b"patient Doe"))
    return handler.send(status, b"" if status == 204 else body, "application/dicom+json")


@pytest.mark.parametrize("end", ["null", "empty", 204, 400, 404, 410, 416])
def test_what_servers_answer_behind_the_last_page(pacs, folder, end, capfd):
    pacs.page, pacs.end = 2, end
    for study in range(4):
        pacs.add(f"1.{study}", instances=4)
    assert fetch(pacs, folder) == Download(16, 16, 0)
    assert capfd.readouterr().err == ""
    assert len(pacs.requests) == 3 + 4 * (2 + 3) + 16  # studies, series and instances, files


@pytest.mark.parametrize("end", ["null", "empty", 204])
def test_nothing_is_found_in_many_words(pacs, folder, end):
    pacs.end = end
    with pytest.raises(UserError, match="no study of modality US"):
        fetch(pacs, folder)


@pytest.mark.parametrize(
    "content",
    [b"no preamble" * 99, instance("1.2.1.0")[4:], instance("1.2.9")],
    ids=["not DICOM", "no DICM", "another instance"],
)
def test_what_is_stored_is_the_instance(pacs, folder, content):
    pacs.add("1.2")
    pacs.studies["1.2"][2]["1.2.1"][1]["1.2.1.1"] = content
    assert fetch(pacs, folder) == Download(2, 2, 1)
    assert contents(folder) == sorted(map(instance, (UIDS[0], UIDS[2])))


def test_no_redirect_leads_away_from_https(pacs, folder, in_background, tls):
    with in_background(Pacs()) as plain:
        plain.add("1.2")
        pacs.add("1.2")
        to = f"{plain.url}/studies/1.2/series/1.2.1/instances/1.2.1.0"
        pacs.trouble("1.2.1.0$", status(302, Location=to))
        with pytest.raises(UserError, match="redirects to an unencrypted address"):
            fetch(pacs, folder, credentials=Credentials(token="hunter2"))
        assert plain.requests == []


def test_credentials_do_not_travel_in_clear(folder, monkeypatch):
    url = "http://pacs.example/dicom-web"
    for name, word in (("USER", "joe"), ("PASSWORD", "hunter2")):
        monkeypatch.setenv(f"TF_DICOM_CE_PACS_{name}", word)
    with pytest.raises(UserError, match=r"travel unencrypted.*_UNENCRYPTED=yes") as caught:
        download(url, Query(), Credentials.from_environment(), folder)
    assert "hunter2" not in str(caught.value)
    with connect(url, NOBODY):  # nothing of the kind is known
        pass
    monkeypatch.setenv("TF_DICOM_CE_PACS_UNENCRYPTED", "yes")
    with connect(url, Credentials.from_environment()):
        pass
    monkeypatch.setenv("TF_DICOM_CE_PACS_UNENCRYPTED", "perhaps")
    with pytest.raises(UserError, match="set it to yes, or unset it"):
        Credentials.from_environment()


FAILURES = [cut, hang_up, status(503), status(429), status(500)]


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        *((INSTANCE, answer) for answer in (*FAILURES, cut_without_length, garbled)),
        *((r"/studies$", answer) for answer in FAILURES),
        *((r"/series$", answer) for answer in FAILURES),
    ],
)
def test_failures_are_tried_again(pacs, folder, pattern, answer):
    pacs.add("1.2")
    pacs.trouble(pattern, *[answer] * 4)
    assert fetch(pacs, folder) == Download(3, 3, 0)
    assert contents(folder) == sorted(map(instance, UIDS))


@pytest.mark.parametrize("answer", [cut, cut_without_length, garbled, hang_up, status(503)])
def test_the_last_failure_is_reported(pacs, folder, answer, capfd):
    pacs.add("1.2.3.4")
    pacs.trouble(INSTANCE, *[answer] * 99)
    with pytest.raises(UserError, match=r"5 times in a row.*command continues where") as caught:
        fetch(pacs, folder)
    assert pacs.url in str(caught.value)
    assert "1.2.3.4" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not list(folder.rglob("*.dcm"))
    pacs.troubles.clear()
    assert fetch(pacs, folder) == Download(3, 3, 0)
    assert not list(folder.rglob("*.part"))


def test_the_server_says_when_to_come_back(pacs, folder):
    pacs.add("1.2", instances=1)
    pacs.trouble(INSTANCE, status(503, Retry_After="1"), status(503, Retry_After="soon"))
    start = time.monotonic()
    fetch(pacs, folder)
    assert 1 <= time.monotonic() - start < 5


@pytest.mark.parametrize("answer", [status(404), status(403), status(500), html])
def test_an_instance_that_is_not_given_is_skipped(pacs, folder, answer):
    pacs.add("1.2")
    pacs.trouble(r"/instances/1.2.1.1$", *[answer] * 5)
    assert fetch(pacs, folder) == Download(2, 2, 1)
    assert contents(folder) == sorted(map(instance, (UIDS[0], UIDS[2])))


def test_an_empty_instance_is_skipped(pacs, folder):
    pacs.add("1.2")
    pacs.studies["1.2"][2]["1.2.1"][1]["1.2.1.1"] = b""
    assert fetch(pacs, folder) == Download(2, 2, 1)


def test_no_instance_is_given(pacs, folder):
    pacs.add("1.2")
    pacs.trouble(INSTANCE, *[status(404)] * 3)
    with pytest.raises(UserError, match="none of the 3 instances: refused 3 by HTTP 404"):
        fetch(pacs, folder)


@pytest.mark.parametrize("pattern", ["1.2/series$", "1.2.1/instances$"])
def test_what_is_deleted_meanwhile(pacs, folder, pattern):
    pacs.add("1.2")
    pacs.add("1.3", instances=1)
    pacs.trouble(pattern, status(404))
    assert fetch(pacs, folder) == Download(1, 1, 0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(401), "HTTP 401.*TF_DICOM_CE_PACS_TOKEN.*TF_DICOM_CE_PACS_USER.*_PASSWORD"),
        (status(403), "HTTP 403.*TF_DICOM_CE_PACS_TOKEN"),
        (status(404), "is no DICOMweb service.*HTTP 404.*https://host/dicom-web"),
        (status(400), "HTTP 400.*https://host/dicom-web"),
        (html, "not DICOM JSON.*https://host/dicom-web"),
        (lambda handler: handler.send(200, b"[1]"), "not DICOM JSON"),
        (lambda handler: handler.send(200, b'"Doe"'), "not DICOM JSON"),
    ],
)
def test_the_address_or_the_credentials_are_wrong(pacs, folder, answer, message):
    pacs.trouble("/studies$", answer)
    with pytest.raises(UserError, match=message) as caught:
        fetch(pacs, folder)
    assert pacs.url in str(caught.value)
    assert "Doe" not in str(caught.value)
    assert len(pacs.requests) == 1


def test_a_token_that_expires(pacs, folder):
    pacs.add("1.2")
    pacs.trouble(INSTANCE, *[status(401)] * 3)
    with pytest.raises(UserError, match="HTTP 401"):
        fetch(pacs, folder)


def test_no_server(pacs, folder):
    url = pacs.url.replace(str(pacs.server_port), "1")
    with pytest.raises(UserError, match=r"5 times in a row \(ConnectionError\)"):
        download(url, Query(), NOBODY, folder)


def test_nothing_matches(pacs, folder):
    with pytest.raises(UserError, match="no study of modality MR and dates 20240102;"):
        fetch(pacs, folder, Query("MR", "20240102"))
    pacs.add("1.2", "Doe")
    with pytest.raises(UserError, match=r'1 studies of modality US, none.*like "neck"') as caught:
        fetch(pacs, folder, Query(description="neck"))
    assert "Doe" not in str(caught.value)
    pacs.add("1.2", instances=0)
    with pytest.raises(UserError, match="1 studies of modality US, but no instance"):
        fetch(pacs, folder)


@pytest.mark.parametrize(
    "url",
    [
        "https://joe:hunter2@host/dicom-web",
        "joe:hunter2@host",
        "https://host/dicom-web?token=hunter2",
        "https://host/#hunter2",
        "ftp://host/hunter2",
        "https://:443/hunter2",
        "https://host:hunter2/",
        "https://[hunter2/",
        "hunter2",
    ],
)
def test_addresses_that_are_refused(url, folder):
    with pytest.raises(UserError, match=r"https://host/dicom-web|TF_DICOM_CE_PACS_USER") as caught:
        download(url, Query(), NOBODY, folder)
    assert "hunter2" not in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize(
    "dates", ["2024", "20240230", "20240101-2024", "20240102-20240101", "-", "2024-01-01", "today"]
)
def test_dates_that_are_refused(dates):
    with pytest.raises(UserError, match=f'"{dates}".*20240101-20241231'):
        Query(dates=dates)


@pytest.mark.parametrize("dates", ["20240229", "20240101-", "-20240101", "20240101-20240101"])
def test_dates_that_are_allowed(dates):
    assert Query(dates=dates).dates == dates


@pytest.mark.parametrize("modality", ["", "us", "US,CT", "*"])
def test_modalities_that_are_refused(modality):
    with pytest.raises(UserError, match="is not a DICOM modality"):
        Query(modality)


def test_credentials(monkeypatch, pacs, folder):
    pacs.add("1.2", instances=1)
    assert Credentials.from_environment() == NOBODY
    monkeypatch.setenv("TF_DICOM_CE_PACS_USER", "jöe")
    with pytest.raises(UserError, match="TF_DICOM_CE_PACS_USER and TF_DICOM_CE_PACS_PASSWORD"):
        Credentials.from_environment()
    monkeypatch.setenv("TF_DICOM_CE_PACS_PASSWORD", "hunter2")
    fetch(pacs, folder, credentials=Credentials.from_environment())
    basic = "Basic " + base64.b64encode("jöe:hunter2".encode()).decode()
    assert {headers["Authorization"] for _, _, headers in pacs.requests} == {basic}
    pacs.requests.clear()
    monkeypatch.setenv("TF_DICOM_CE_PACS_TOKEN", "hunter3\n")
    credentials = Credentials.from_environment()
    fetch(pacs, folder, credentials=credentials)
    assert {headers["Authorization"] for _, _, headers in pacs.requests} == {"Bearer hunter3"}
    assert repr(credentials) == "Credentials()"


def test_one_download_at_a_time(pacs, folder):
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another download"):
        fetch(pacs, folder)
    os.close(descriptor)


def test_a_folder_that_cannot_be_written_to(pacs, folder):
    folder.write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be written to \(File exists\)"):
        fetch(pacs, folder)


def test_a_library_is_missing(pacs, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(UserError, match=r"pip install 'tf-dicom-ce\[pacs\]'"):
        fetch(pacs, folder)


def test_memory_stays_flat(pacs, folder):
    def large(handler):
        start, end = wrapped(instance("1.2.1.0") + b"cut here").split(b"cut here")
        kind = f"multipart/related; boundary={BOUNDARY}"
        handler.send(200, start, kind, length="unknown")
        block = b"\r\n--" * (1 << 18)
        for _ in range(64):
            handler.wfile.write(block)
        handler.wfile.write(end)

    pacs.add("1.2", instances=1)
    pacs.trouble(INSTANCE, large)
    tracemalloc.start()
    fetch(pacs, folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert next(folder.rglob("*.dcm")).stat().st_size == (64 << 20) + len(instance("1.2.1.0"))
    assert peak < 16 << 20


@pytest.mark.parametrize("pattern", [INSTANCE, "/studies$"])
def test_an_interrupt_leaves_at_once(pacs, folder, pattern):
    blocked, leave = threading.Event(), threading.Event()

    def stall(_):
        blocked.set()
        leave.wait(30)

    pacs.add("1.2")
    pacs.trouble(pattern, *[stall] * 3)
    code = (
        "import sys; from pathlib import Path; from tf_dicom_ce.intake.dicomweb import *\n"
        "from tf_dicom_ce.intake.download import download, Query\n"
        "try:\n"
        " with connect(sys.argv[1], Credentials()) as archive:\n"
        "  download(archive, Query(), Path(sys.argv[2]))\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    command = [sys.executable, "-c", code, pacs.url, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert blocked.wait(60)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        output, errors = process.communicate(timeout=20)
    leave.set()
    pacs.troubles.clear()
    assert time.monotonic() - start < 5
    assert (process.returncode, output) == (0, b"interrupted\n")
    assert b"Traceback" not in errors
    assert fetch(pacs, folder) == Download(3, 3, 0)


@pytest.fixture
def certificate(pacs, tmp_path, program):
    """The certificate of the TLS server."""
    openssl = program("openssl", "openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out"
    names = [certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    pacs.socket = context.wrap_socket(pacs.socket, server_side=True)
    pacs.url = pacs.url.replace("http:", "https:")
    return certificate


@pytest.fixture
def tls(certificate, monkeypatch):
    """The server speaks TLS, and is trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))


def test_certificates(pacs, folder, certificate, monkeypatch):
    pacs.add("1.2")
    with pytest.raises(UserError, match=r"certificate that is not trusted.*REQUESTS_CA_BUNDLE"):
        fetch(pacs, folder)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    pacs.trouble(INSTANCE, cut, cut_without_length)
    assert fetch(pacs, folder) == Download(3, 3, 0)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Path("gone.pem")))
    with pytest.raises(UserError, match=r"REQUESTS_CA_BUNDLE is gone.pem, which does not exist"):
        fetch(pacs, folder)
