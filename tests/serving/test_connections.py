"""Connections that ask slowly, by halves or not at all, and those that behave beside them."""

import contextlib
import logging
import resource
import socket
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tf_dicom_ce.serving import connections
from tf_dicom_ce.serving.connections import Connections
from tf_dicom_ce.serving.server import Sparing

HALF = b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: "
SLOW = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
LARGE = 32 << 20  # more than the sockets hold


@pytest.fixture
def site(serve_app, monkeypatch):
    """An app that answers at once, of at most 20 connections; its port and its `Connections`."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(connections, "_GRACE", 0.4)

    async def answer(request: Request):
        return PlainTextResponse(await request.body() or b"fine")

    async def large(request: Request):
        return PlainTextResponse(bytes(LARGE))

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), Route("/large", large)])
    app.state.connections = Connections(seconds=0.4)
    app.state.connections.most = 20
    with serve_app(app) as url:
        yield httpx.URL(url).port, app.state.connections


@contextlib.contextmanager
def opened(port, sent, number=1):
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(number):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            one.sendall(sent)
            made.append(one)
        yield made


def is_cut(connection):
    try:
        return connection.recv(1 << 16) == b""
    except ConnectionResetError:
        return True


def trickled(connection, seconds):
    """Sends a byte now and then; how long that went well."""
    begin = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < begin + seconds:
            connection.sendall(b"a")
            time.sleep(0.02)
    return time.monotonic() - begin


def ask_fine(connection, times):
    connection.sendall(times * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    found = b""
    while found.count(b"fine") < times:
        found += connection.recv(1 << 16) or pytest.fail("closed")


@pytest.mark.parametrize("sent", [b"", HALF])
def test_a_head_that_does_not_come(site, sent):
    with opened(site[0], sent) as (one,):
        begin = time.monotonic()
        assert is_cut(one)
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "sent",
    [
        HALF,
        SLOW.replace(b"9", b"99999"),
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_bytes_that_trickle_in_gain_no_time(site, sent):
    with opened(site[0], sent) as (one,):
        assert trickled(one, 20) < 5


def test_the_next_request_has_its_own_time(site):
    with opened(site[0], b"") as (one,):
        for _ in range(5):
            time.sleep(0.2)
            ask_fine(one, 1)
        one.sendall(HALF)
        assert is_cut(one)


def test_two_requests_at_once(site):
    with opened(site[0], b"") as (one,):
        ask_fine(one, 2)


def test_an_answer_that_nobody_takes(site):
    port, account = site
    with opened(port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"):
        deadline = time.monotonic() + 10
        while len(account) != 1:
            assert time.monotonic() < deadline
        while len(account):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("sent", [b"", HALF, SLOW])
def test_the_longest_wait_ends_for_who_asks(site, sent, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)
    monkeypatch.setattr(connections, "_GRACE", 60)
    port, account = site
    with opened(port, sent, 30) as made:
        begin = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "fine"
        assert time.monotonic() - begin < 1
        assert len(account) <= 10  # half of 20 are one address's
        assert account.closed >= 20
        assert all(is_cut(one) for one in made[:20])
        made[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            is_cut(made[-1])


class Stub:
    def __init__(self, waits=True):
        self.waits, self.transport, self.is_cut = waits, self, False

    def abort(self):
        self.is_cut = True


def test_whom_room_is_made_of():
    account = Connections(1)
    account.most = 4
    first, second, third = Stub(), Stub(waits=False), Stub()
    account.add(first, "a")
    account.add(second, "a")
    account.add(third, "a")  # beyond half of all: the first of its address goes
    assert [one.is_cut for one in (first, second, third)] == [True, False, False]
    others = [Stub(waits=False) for _ in range(2)]
    for one in others:
        account.add(one, "b")
    newest = Stub()
    account.add(newest, "c")  # beyond all: the longest at rest, of any address
    assert third.is_cut and not newest.is_cut
    account.renew(newest)
    newest.waits = False
    late = Stub()
    account.add(late, "d")  # all are worked on
    assert late.is_cut and len(account) == 4 and account.closed == 3
    for one in (second, *others, newest, late):
        account.remove(one)
    assert len(account) == 0 and not account._of_address


@pytest.mark.parametrize(
    ("handles", "most"),
    [(1024, 768), (256, 128), (1_000_000, 4096), (resource.RLIM_INFINITY, 4096)],
)
def test_file_handles_bound_connections(monkeypatch, handles, most):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (handles, handles))
    assert Connections(1).most == most


def test_the_log_is_bounded():
    sparing, passed = Sparing(3), []
    for k in range(10):
        for level in (logging.INFO, logging.ERROR):
            record = logging.LogRecord("x", level, "", 0, "line %d", (k,), None)
            record.created = 7.5 if k < 9 else 8.1
            if sparing.filter(record):
                passed.append((level, record.getMessage()))
    for level in (logging.INFO, logging.ERROR):
        found = [text for of, text in passed if of == level]
        assert found == ["line 0", "line 1", "line 2", "(6 lines left out) line 9"]
