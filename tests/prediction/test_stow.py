"""STOW-RS to a small server that can be told to misbehave."""

import email
import email.policy
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from pydicom import dcmread

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import dicomweb_server
from tf_dicom_ce.intake.dicomweb_server import Credentials
from tf_dicom_ce.prediction import sending
from tf_dicom_ce.prediction.sending import Stored, store

NOBODY = Credentials()


class Pacs(ThreadingHTTPServer):
    """Keeps what it is sent: `batches` of {UID: bytes}; `answers` are given before it takes any."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/dicom-web"
        self.batches, self.requests, self.answers = [], [], []
        self.refuses, self.reason = set(), 272
        self.kind = "application/dicom+json"

    def uids(self):
        return [uid for batch in self.batches for uid in batch]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        if server.answers:
            status, headers = server.answers.pop(0)
            return self.reply(status, headers.pop("body", b"patient Doe"), headers)
        # The standard library's own reader of MIME.
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        assert message.get_content_type() == "multipart/related"
        assert message.get_param("type") == "application/dicom"
        parts = list(message.iter_parts())
        assert {part.get_content_type() for part in parts} == {"application/dicom"}
        files = {uid_of(content): content for part in parts if (content := part.get_content())}
        refused = [uid for uid in files if uid in server.refuses]
        taken = {uid: content for uid, content in files.items() if uid not in server.refuses}
        server.batches.append(taken)
        reason = {"vr": "US", "Value": [server.reason]}
        failed = [{"00081155": {"vr": "UI", "Value": [uid]}, "00081197": reason} for uid in refused]
        rows = {"00081198": {"vr": "SQ", "Value": failed}} if failed else {}
        status = 409 if not taken else 202 if refused else 200
        body = json.dumps(rows).encode() if "json" in server.kind else b"<NativeDicomModel/>"
        return self.reply(status, body, {"Content-Type": server.kind})

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def uid_of(content):
    return dcmread(io.BytesIO(content)).SOPInstanceUID


def names(number):
    return [f"dicom/{k}.dcm" for k in range(number)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(dicomweb_server, "_FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)


@pytest.fixture
def pacs(in_background):
    with in_background(Pacs()) as server:
        yield server


@pytest.fixture
def results(write, tmp_path):
    """20 files of random bytes, line ends among them, by UID."""
    rng = np.random.default_rng(0)
    written = {}
    for name in names(20):
        content = write(name, rng.integers(0, 256, (30, 40), np.uint8)).read_bytes()
        written[uid_of(content)] = content
    return written


def send(pacs, folder, number=20, credentials=NOBODY):
    return store(pacs.url, credentials, folder, names(number), progress=False)


def test_files_arrive_byte_for_byte_in_modest_batches(pacs, results, tmp_path):
    assert send(pacs, tmp_path) == Stored(20, 20, 0)
    assert [len(batch) for batch in pacs.batches] == [8, 8, 4]
    assert {uid: c for batch in pacs.batches for uid, c in batch.items()} == results
    assert {path for path, _ in pacs.requests} == {"/dicom-web/studies"}
    assert {headers["Accept"] for _, headers in pacs.requests} == {"application/dicom+json"}


def test_a_batch_is_of_bounded_size(pacs, results, tmp_path, monkeypatch):
    sizes = [len(content) for content in results.values()]  # all but equal
    monkeypatch.setattr(sending, "_BATCH_BYTES", 2 * max(sizes))
    send(pacs, tmp_path, 5)
    monkeypatch.setattr(sending, "_BATCH_BYTES", min(sizes) - 1)
    send(pacs, tmp_path, 7)
    assert [len(batch) for batch in pacs.batches] == [2, 2, 1, 1, 1]


def test_nothing_is_sent_twice(pacs, results, tmp_path):
    assert send(pacs, tmp_path, 10) == Stored(10, 10, 0)
    assert send(pacs, tmp_path, 20) == Stored(20, 10, 0)
    assert send(pacs, tmp_path, 20) == Stored(20, 0, 0)
    assert sorted(pacs.uids()) == sorted(results)


def test_another_server_gets_all(pacs, results, tmp_path):
    send(pacs, tmp_path, 3)
    other = f"{pacs.url}/other"
    assert store(other, NOBODY, tmp_path, names(3), progress=False) == Stored(3, 3, 0)


def test_a_busy_server_is_asked_again(pacs, results, tmp_path):
    pacs.answers = [(503, {"Retry-After": "0"}), (429, {}), (504, {})]
    assert send(pacs, tmp_path, 4) == Stored(4, 4, 0)
    assert len(pacs.requests) == 4
    assert len(pacs.uids()) == 4


def test_what_was_stored_before_the_server_went_away_stays_stored(pacs, results, tmp_path):
    send(pacs, tmp_path, 8)
    pacs.answers = [(503, {})] * 5
    with pytest.raises(UserError, match=r"failed 5 times in a row \(HTTP 503\)") as error:
        send(pacs, tmp_path)
    assert "Doe" not in str(error.value)
    assert send(pacs, tmp_path) == Stored(20, 12, 0)
    assert sorted(pacs.uids()) == sorted(results)


def test_a_stopped_batch_is_sent_again_under_the_same_uids(pacs, results, tmp_path):
    """A kill after the server's answer, before it is noted; half a line in the table."""
    send(pacs, tmp_path, 8)
    table = tmp_path / "stored.csv"
    table.write_bytes(table.read_bytes()[:-5])
    assert send(pacs, tmp_path, 8) == Stored(8, 1, 0)
    assert set(pacs.uids()) == set(list(results)[:8])


@pytest.mark.parametrize("all_of_a_batch", [False, True])
def test_refused_instances_are_counted_and_tried_another_time(
    pacs, results, tmp_path, all_of_a_batch
):
    refused = list(results)[8:16] if all_of_a_batch else list(results)[3:5]
    pacs.refuses = set(refused)
    count = len(refused)
    assert send(pacs, tmp_path) == Stored(20 - count, 20 - count, count)
    pacs.refuses = set()
    assert send(pacs, tmp_path) == Stored(20, count, 0)
    assert sorted(pacs.uids()) == sorted(results)


def test_a_batch_that_is_too_large_is_split(pacs, results, tmp_path):
    pacs.answers = [(413, {})]
    assert send(pacs, tmp_path, 4) == Stored(4, 4, 0)
    assert [len(batch) for batch in pacs.batches] == [1, 1, 1, 1]


def test_a_server_that_takes_nothing(pacs, results, tmp_path):
    pacs.refuses = set(results)
    with pytest.raises(UserError, match=r"took none of the 4 results \(Failure Reason 0110H\)"):
        send(pacs, tmp_path, 4)


@pytest.mark.parametrize("reason", [0x0111, 45070])
@pytest.mark.parametrize("number", [1, 3, 8])
def test_what_the_server_had_before_is_stored(pacs, results, tmp_path, reason, number):
    """A batch of which all was there is answered 409, one of which some was there 202."""
    pacs.refuses, pacs.reason = set(list(results)[:number]), reason
    assert send(pacs, tmp_path, 8) == Stored(8, 8, 0)
    assert len(pacs.requests) == 1
    assert send(pacs, tmp_path, 8) == Stored(8, 0, 0)


def test_a_conflict_that_names_some(pacs, results, tmp_path):
    """Nothing of a 409 was stored: what it does not name is sent alone."""
    failed = {"00081155": {"Value": [next(iter(results))]}, "00081197": {"Value": [0xA700]}}
    body = json.dumps({"00081198": {"vr": "SQ", "Value": [failed]}}).encode()
    pacs.answers = [(409, {"Content-Type": "application/dicom+json", "body": body})]
    assert send(pacs, tmp_path, 3) == Stored(2, 2, 1)
    assert [len(batch) for batch in pacs.batches] == [1, 1]


def test_a_conflict_without_reasons(pacs, results, tmp_path):
    body = {"Content-Type": "application/dicom+json", "body": b"null"}
    pacs.answers = [(409, dict(body)) for _ in range(2)]
    assert send(pacs, tmp_path, 2) == Stored(1, 1, 1)


def test_a_page_of_a_proxy_is_no_success(pacs, results, tmp_path):
    for kind in ("text/html", "application/xhtml+xml", "text/plain"):
        pacs.answers = [(200, {"Content-Type": kind, "body": b"<html>Log in, Doe"})]
        with pytest.raises(UserError, match=r"takes no results .*not of STOW-RS") as error:
            send(pacs, tmp_path, 2)
        assert "Doe" not in str(error.value)
    assert len(pacs.requests) == 3
    assert send(pacs, tmp_path, 2) == Stored(2, 2, 0)


def test_an_answer_without_a_word(pacs, results, tmp_path):
    pacs.answers = [(200, {"body": b""})]
    assert send(pacs, tmp_path, 2) == Stored(2, 2, 0)


def test_a_server_that_answers_in_xml(pacs, results, tmp_path):
    pacs.kind = "application/dicom+xml"
    assert send(pacs, tmp_path, 4) == Stored(4, 4, 0)


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {}, "refused the credentials"),
        (403, {}, "refused the credentials"),
        (404, {}, "takes no results"),
        (302, {"Location": "http://127.0.0.1:9/"}, "took none of the 1 results"),
    ],
)
def test_mistakes(pacs, results, tmp_path, status, headers, message):
    pacs.answers = [(status, headers)]
    with pytest.raises(UserError, match=message):
        send(pacs, tmp_path, 1)
    assert len(pacs.requests) == 1


def test_credentials_go_along(pacs, results, tmp_path):
    send(pacs, tmp_path, 1, Credentials(token="abc"))
    assert pacs.requests[0][1]["Authorization"] == "Bearer abc"


def test_nothing_travels_unencrypted(results, tmp_path):
    with pytest.raises(UserError, match="would travel unencrypted"):
        store("http://pacs.example/dicom-web", NOBODY, tmp_path, names(1), progress=False)
    with pytest.raises(UserError, match="no web address"):
        store("pacs.example", NOBODY, tmp_path, names(1), progress=False)
    assert not (tmp_path / "stored.csv").exists()
