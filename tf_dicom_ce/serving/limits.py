"""What a request may cost: a place in the queue, bytes, seconds, a thread."""

import asyncio
import logging
import traceback
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.access import Access
from tf_dicom_ce.serving.settings import Settings

_LONGEST_PATH = 1000  # characters
_PAUSE = 10.0  # seconds between two parts of a body
_PATIENCE = 2.0  # seconds for the rest of a body that nobody wants
_BODIES = 16  # of the longest that is allowed, the memory for all that come in at a time
_PIECE = 1 << 20  # bytes that are unpacked at a time; others are answered in between
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
_log = logging.getLogger(__name__)


def error_response(error: RequestError) -> JSONResponse:
    """`{"error": message}`, with the headers that go with the status."""
    message = error.message.encode(errors="replace").decode()  # half a surrogate may be quoted
    return JSONResponse({"error": message}, error.status, headers=_HEADERS.get(error.status))


class Threads:
    """A number of threads for what is synchronous; who wants one waits for it in the event loop.

    Attributes:
        running: Threads that work, among them those whose request has been given up.
        waiting: Requests that wait for a thread.
    """

    def __init__(self, number: int):
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="serving")
        self._free = asyncio.Semaphore(number)
        self.running = self.waiting = 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns `function(*arguments)`; a cancelled call keeps its thread until that ends."""
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future) -> None:
        self.running -= 1
        self._free.release()


class Limits:
    """Middleware that lets a request through, or answers why not; nothing raises through it.

    Answers what `Access` has against it, 414 for an endless path, 413 for too long a body (also
    one of unknown length, or one that is unpacked), 503 beyond the queue or the memory for bodies,
    408 where the body and 504 where the answer takes too long, 500 for a fault of this program.
    The name of the token is `client` in the request's state.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app, self._settings, self._access = app, settings, Access(settings)
        self._coming: set[_Exchange] = set()  # whose bodies are not whole
        self._bytes = self._admitted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        try:
            scope.setdefault("state", {})["client"] = self._access.require(scope)
            if len(scope["path"]) > _LONGEST_PATH:
                raise RequestError(414, f"A path has at most {_LONGEST_PATH} characters.")
            await self._answer_in_time(exchange)
        except RequestError as error:
            # Its frames hold the request, and futures in them hold it in turn: a circle that would
            # keep the whole body until the next full garbage collection.
            error.__traceback__ = None
            await exchange.refuse(error)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:
            # Messages may quote what was sent; the lines of the program do not.
            lines = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s is a fault of the server:\n%s", type(error).__name__, lines)
            await exchange.refuse(RequestError(500, "A fault of the server; its log tells more."))

    async def _answer_in_time(self, exchange: "_Exchange") -> None:
        seconds = self._settings.seconds
        try:
            # anyio's, not asyncio's: a thread of anyio keeps its place until it ends.
            with anyio.move_on_after(seconds) as exchange.timer:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            self.forget(exchange)
            self._admitted -= exchange.has_place
        if exchange.timer.cancelled_caught:
            if exchange.crowded_out:
                raise RequestError(503, "Too much is being sent. Try again in a second.")
            late, status = ("whole body", 408) if exchange.waits_for_body else ("answer", 504)
            raise RequestError(status, f"No {late} within {seconds:g} seconds.")

    def require_short(self, size: int) -> None:
        """A body of so many bytes is allowed."""
        if size > self._settings.max_body:
            raise RequestError(413, f"A request has at most {self._settings.max_body} bytes.")

    def count(self, exchange: "_Exchange", more: int) -> None:
        """So many more bytes of a body that is not whole; the longest gives way to the others."""
        self._coming.add(exchange)
        self._bytes += more
        if self._bytes > _BODIES * self._settings.max_body:
            longest = max(self._coming, key=lambda one: one.size)
            self.forget(longest)
            longest.crowded_out = True
            longest.timer.cancel()

    def admit(self, exchange: "_Exchange") -> None:
        """Gives a place to what is whole: slow bodies keep nobody from answering others."""
        if exchange.scope["method"] in ("GET", "HEAD"):
            return
        if self._admitted >= self._settings.threads + self._settings.queue:
            raise RequestError(503, "The queue is full. Try again in a second.")
        self._admitted += 1
        exchange.has_place = True

    def forget(self, exchange: "_Exchange") -> None:
        """Its body is whole, or nobody waits for it any more."""
        if exchange in self._coming:
            self._coming.remove(exchange)
            self._bytes -= exchange.size
            exchange.size = 0


class _Exchange:
    """A request on its way in, its bytes counted, and its answer on its way out.

    Attributes:
        size: Bytes of the body that are there, unpacked, while it is not whole.
        is_whole: Whether all are.
        waits_for_body: Whether a part of the body was asked for and did not come.
        timer: What ends it.
        crowded_out: Whether it was ended for others' sake.
        has_place: Whether it is among those that are worked on, or wait for that.
    """

    def __init__(self, limits: Limits, scope: Scope, receive: Receive, send: Send):
        self.scope, self._limits = scope, limits
        self._receive, self._send = receive, send
        self._headers = dict(scope["headers"])
        self._gzip, self._rest, self._came = None, b"", False
        self.size = 0
        self.is_whole = self.waits_for_body = self.crowded_out = self.has_place = False
        self._begun = self._started = False

    async def receive(self) -> Message:
        """Raises RequestError where the body is too long or slow, or says that it will be long."""
        if self.is_whole:
            return await self._receive()  # that the client goes away
        if not self._begun:
            self._begin()
        message = await (self._part() if self._gzip is None else self._unpacked())
        if message["type"] != "http.request":
            return message
        more = len(message.get("body", b""))
        self._limits.require_short(self.size + more)
        if message.get("more_body", False):
            self.size += more
            self._limits.count(self, more)
        else:
            self._limits.forget(self)
            self.is_whole = True
            self._limits.admit(self)
        return message

    def _begin(self) -> None:
        self._begun = True
        length = self._headers.get(b"content-length", b"")
        self._limits.require_short(int(length) if length.isdigit() and len(length) < 20 else 0)
        coding = self._headers.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"identity", b"gzip"):
            raise RequestError(415, "Content-Encoding has to be gzip, or left out.")
        if coding == b"gzip":
            self._gzip = zlib.decompressobj(wbits=31)

    async def _part(self) -> Message:
        self.waits_for_body = True
        with anyio.move_on_after(_PAUSE) as pause:
            message = await self._receive()
        if pause.cancelled_caught:
            raise RequestError(408, f"Nothing more of the body for {_PAUSE:g} seconds.")
        self.waits_for_body = False
        return message

    async def _unpacked(self) -> Message:
        """The next piece of what a gzip stream becomes."""
        if not self._rest and not self._came:
            message = await self._part()
            if message["type"] != "http.request":
                return message
            self._rest, self._came = message.get("body", b""), not message.get("more_body", False)
        else:
            await asyncio.sleep(0)
        try:
            body = self._gzip.decompress(self._rest, _PIECE)
        except zlib.error:
            raise RequestError(400, "The body is not gzip, as Content-Encoding says.") from None
        self._rest = self._gzip.unconsumed_tail
        more = not self._came or bool(self._rest) or len(body) == _PIECE
        if self._gzip.unused_data or not (more or self._gzip.eof):
            raise RequestError(400, "The gzip stream ends too early, or something follows it.")
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message: Message) -> None:
        self._started = True
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Answers with the error; where an answer has begun, the connection ends within it."""
        if self._started:
            return
        whole, close = self.is_whole, False
        if not whole and {b"content-length", b"transfer-encoding"} & set(self._headers):
            close = True  # or what comes of it would be taken for the next request
        # Many a client sends to the end before it reads an answer.
        if not self.waits_for_body and b"expect" not in self._headers:
            with anyio.move_on_after(_PATIENCE):
                while not whole:
                    message = await self._receive()
                    whole = not message.get("more_body", False)
        response = error_response(error)
        if close:
            response.headers["Connection"] = "close"
        await response(self.scope, self._receive, self._send)
