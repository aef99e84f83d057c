"""Limits around apps that block, fail and read as the tests want it."""

import asyncio
import contextlib
import gc
import json
import logging
import threading
import tracemalloc
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tf_dicom_ce.errors import RequestError, UserError
from tf_dicom_ce.serving import limits
from tf_dicom_ce.serving.limits import Limits, error_response
from tf_dicom_ce.serving.settings import Settings

OPEN = ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/static/a.js")


class Body:
    """What a request may hold, and a weak reference may look at."""


class Site:
    """An app behind limits; `gate` lets the threads of /work go on, `body` is that of /refuse."""

    def __init__(self, **settings):
        self.settings = Settings(**settings)
        self.threads = ThreadPoolExecutor(self.settings.threads)
        self.gate = threading.Event()
        self.asked = self.begun = self.running = 0
        self.app = Starlette(
            routes=[
                Route("/work", self.work, methods=["POST"]),
                Route("/echo", self.echo, methods=["POST"]),
                Route("/late", self.late),
                Route("/fail", self.fail),
                Route("/refuse", self.refuse),
                *(Route(path, self.fine) for path in OPEN),
            ],
            middleware=[Middleware(Limits, settings=self.settings)],
        )

    async def work(self, request):
        await request.body()
        self.asked += 1
        await self.in_thread(self.wait)
        return PlainTextResponse("done")

    def in_thread(self, function, *arguments):
        return asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    def wait(self):
        self.begun += 1
        self.running += 1
        self.gate.wait(30)
        self.running -= 1

    async def echo(self, request):
        return PlainTextResponse(await request.body())

    async def fine(self, request):
        return PlainTextResponse("fine")

    async def late(self, request):
        async def parts():
            yield b"begun"
            await asyncio.sleep(30)

        return StreamingResponse(parts())

    async def fail(self, request):
        raise ValueError(request.url.query)

    async def refuse(self, request):
        in_thread = self.in_thread if request.url.query == "own" else anyio.to_thread.run_sync
        body = Body()
        self.body = weakref.ref(body)
        await in_thread(self.read, body)

    def read(self, body):
        raise RequestError(418, "no tea")

    @contextlib.asynccontextmanager
    async def client(self):
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            try:
                yield client
            finally:
                self.gate.set()


def run(site, scenario):
    async def whole():
        async with site.client() as client:
            return await scenario(client)

    return asyncio.run(whole())


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def error(response):
    content = response.json()
    assert list(content) == ["error"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, content["error"]


async def pieces(*contents):
    for content in contents:
        yield content


def scope(method, path, headers=()):
    scope = {"type": "http", "method": method, "path": path, "query_string": b""}
    return scope | {"headers": list(headers)}


@pytest.mark.parametrize("announced", [True, False])
def test_long_bodies(announced):
    async def scenario(client):
        def post(content):
            body = content if announced else pieces(content[:5], content[5:])
            return client.post("/echo", content=body)

        assert (await post(b"x" * 10)).text == "x" * 10
        status, message = error(await post(b"x" * 11))
        assert (status, message) == (413, "A request has at most 10 bytes.")

    run(Site(max_body=10), scenario)


def test_a_body_without_end(monkeypatch):
    monkeypatch.setattr(limits, "_PATIENCE", 0.2)

    async def endless():
        while True:
            yield b"x" * 4
            await asyncio.sleep(0.001)

    async def scenario(client):
        assert error(await client.post("/echo", content=endless()))[0] == 413

    run(Site(max_body=10), scenario)


def test_nobody_is_asked_to_go_on_with_what_is_too_long():
    sent = []

    async def receive():
        raise AssertionError("this would send 100 Continue")

    async def send(message):
        sent.append(message.get("status"))

    headers = [(b"content-length", b"11"), (b"expect", b"100-continue")]
    asyncio.run(Site(max_body=10).app(scope("POST", "/echo", headers), receive, send))
    assert sent == [413, None]


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthz"), ("PUT", "/echo")])
def test_no_body_is_read_that_nobody_wants(method, path):
    """Without a token nobody takes memory from those who have one."""
    sent = []

    async def receive():
        raise AssertionError("read")

    async def send(message):
        sent.append(message.get("status"))

    headers = [(b"content-length", b"5"), (b"expect", b"100-continue")]
    asyncio.run(Site().app(scope(method, path, headers), receive, send))
    assert sent == [405, None]


def test_the_queue_is_bounded():
    site = Site(threads=2, queue=1)

    async def scenario(client):
        under_way = [asyncio.create_task(client.post("/work")) for _ in range(3)]
        await until(lambda: (site.running, site.asked) == (2, 3))
        response = await client.post("/work")
        assert error(response)[0] == 503
        assert int(response.headers["retry-after"]) >= 1
        assert (await client.get("/healthz")).status_code == 200
        site.gate.set()
        assert [r.status_code for r in await asyncio.gather(*under_way)] == [200] * 3
        assert (await client.post("/work")).text == "done"

    run(site, scenario)


def test_a_thread_beyond_its_time_is_lacking_until_it_ends():
    site = Site(threads=1, queue=5, seconds=0.2)

    async def scenario(client):
        status, message = error(await client.post("/work"))
        assert (status, message) == (504, "No answer within 0.2 seconds.")
        assert error(await client.post("/work"))[0] == 504  # it never got the only thread
        assert (site.asked, site.running) == (2, 1)
        site.gate.set()
        await until(lambda: site.running == 0)
        assert (await client.post("/work")).text == "done"
        assert site.begun == 2  # what is given up in the queue is not begun

    run(site, scenario)


def test_a_slow_body():
    async def slow():
        yield b"x"
        await asyncio.sleep(30)

    async def scenario(client):
        status, message = error(await client.post("/echo", content=slow()))
        assert (status, message) == (408, "No whole body within 0.1 seconds.")

    run(Site(seconds=0.1), scenario)


def test_a_pause_within_a_body(monkeypatch):
    monkeypatch.setattr(limits, "_PAUSE", 0.1)

    async def slow():
        yield b"x"
        await asyncio.sleep(30)

    async def scenario(client):
        status, message = error(await client.post("/echo", content=slow()))
        assert (status, message) == (408, "Nothing more of the body for 0.1 seconds.")
        assert (await client.post("/echo", content=b"x" * 10)).text == "x" * 10

    run(Site(), scenario)


def test_slow_bodies_take_no_place():
    async def slow():
        yield b"x"
        await asyncio.sleep(30)

    async def scenario(client):
        begun = [asyncio.create_task(client.post("/echo", content=slow())) for _ in range(9)]
        await asyncio.sleep(0.1)
        assert (await client.post("/echo", content=b"fine")).text == "fine"
        for task in begun:
            task.cancel()

    run(Site(threads=1, queue=0), scenario)


@pytest.mark.parametrize("sizes", [(7, 8, 6), (7, 6, 8)])
def test_the_longest_of_too_many_bodies_gives_way(monkeypatch, sizes):
    """Whether it waits, or is the one that comes."""
    monkeypatch.setattr(limits, "_BODIES", 2)
    monkeypatch.setattr(limits, "_PATIENCE", 0.1)
    enough = asyncio.Event()

    async def body(size):
        yield b"x" * size
        await enough.wait()
        yield b"!"

    async def scenario(client):
        begun = []
        for size in sizes:
            begun.append(asyncio.create_task(client.post("/echo", content=body(size))))
            await asyncio.sleep(0.1)
        answer = await begun.pop(sizes.index(8))
        assert error(answer) == (503, "Too much is being sent. Try again in a second.")
        enough.set()
        assert [(await one).text for one in begun] == ["xxxxxxx!", "xxxxxx!"]
        again = await asyncio.gather(*(client.post("/echo", content=body(9)) for _ in range(2)))
        assert [one.status_code for one in again] == [200, 200]  # nothing is counted any more

    run(Site(max_body=10), scenario)


def packed(content, ends=True):
    coder = zlib.compressobj(9, wbits=31)
    return coder.compress(content) + (coder.flush() if ends else b"")


@pytest.mark.parametrize("size", [0, 1, 5000, 3 << 20])
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_gzip(size, step):
    content = bytes(k % 251 for k in range(size))
    body = packed(content)

    async def scenario(client):
        parts = pieces(*(body[k : k + step] for k in range(0, len(body), step)))
        answer = await client.post("/echo", content=parts, headers={"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.content) == (200, content)

    if len(body) / step < 10_000:
        run(Site(), scenario)


@pytest.mark.parametrize(
    ("body", "coding", "status", "words"),
    [
        (packed(bytes(40 << 20)), "gzip", 413, "at most 10485760 bytes"),
        (b"plain", "gzip", 400, "is not gzip"),
        (packed(b"abc")[:-3], "gzip", 400, "too early"),
        (packed(b"a" * 99) + b"more", "gzip", 400, "something follows"),
        (b"", "gzip", 400, "too early"),
        (zlib.compress(b"abc"), "deflate", 415, "has to be gzip"),
        (packed(packed(b"abc")), "gzip, gzip", 415, "has to be gzip"),
    ],
)
def test_gzip_that_is_none_or_becomes_too_much(body, coding, status, words):
    async def scenario(client):
        answer = await client.post("/echo", content=body, headers={"Content-Encoding": coding})
        found, message = error(answer)
        assert (found, words in message) == (status, True)

    tracemalloc.start()
    try:
        run(Site(max_body=10 << 20), scenario)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_slow_answer_ends_without_a_second_one():
    sent = []

    async def receive():
        await asyncio.sleep(30)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(Site(seconds=0.1).app(scope("GET", "/late"), receive, send))
    assert sent == ["http.response.start", "http.response.body"]


def test_faults_are_told_without_what_was_sent(caplog):
    async def scenario(client):
        with caplog.at_level(logging.ERROR):
            status, message = error(await client.get("/fail?DOE^JOHN"))
        assert status == 500
        assert "DOE" not in message + caplog.text
        assert "ValueError" in caplog.text and "in fail" in caplog.text
        assert error(await client.get("/refuse")) == (418, "no tea")

    run(Site(), scenario)


@pytest.mark.parametrize("threads", ["own", "anyio"])
def test_a_refused_request_is_forgotten_at_once(threads):
    site = Site()

    async def scenario(client):
        assert (await client.get(f"/refuse?{threads}")).status_code == 418
        await until(lambda: site.body() is None)  # the thread ends a little later

    gc.disable()
    try:
        run(site, scenario)
    finally:
        gc.enable()


@pytest.mark.parametrize("path", ["/" + "a" * 1000, "/v1/models/m/versions/" + "9" * 5000])
def test_endless_paths(path):
    async def scenario(client):
        assert error(await client.get(path))[0] == 414

    run(Site(), scenario)


def test_a_client_that_goes_away_is_no_fault(caplog):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    asyncio.run(Site().app(scope("POST", "/echo"), receive, send))
    assert caplog.text == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65536},
        {"max_body": 0},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"threads": 0},
        {"queue": -1},
    ],
)
def test_wrong_settings(wrong):
    (name, value), *_ = wrong.items()
    option = {"max_body": "--max-body", "seconds": "--timeout"}.get(name, f"--{name}")
    with pytest.raises(UserError, match=f"{option} {value}"):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("message", "expected"),
    [('a "quoted" \x00 word', 'a "quoted" \x00 word'), ("\ud800ü", "?ü")],
)
def test_refusals_are_json(message, expected):
    assert json.loads(error_response(RequestError(400, message)).body) == {"error": expected}
