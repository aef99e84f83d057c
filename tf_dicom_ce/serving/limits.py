"""What a request may cost: a place in the queue, bytes, seconds, a thread."""

import asyncio
import contextlib
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
from tf_dicom_ce.serving.access import is_open, require_access
from tf_dicom_ce.serving.settings import Settings

_LONGEST_PATH = 1000  # characters
_PAUSE = 10.0  # seconds between two parts of a body
_PATIENCE = 2.0  # seconds for the rest of a body that is refused
_BODIES = 16  # bodies of the largest size for which there is memory while they come in
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
_log = logging.getLogger(__name__)


def error_response(error: RequestError) -> JSONResponse:
    """`{"error": message}`, with the headers that go with the status."""
    message = error.message.encode(errors="replace").decode()  # it may quote half a surrogate
    return JSONResponse({"error": message}, error.status, headers=_HEADERS.get(error.status))


class Threads:
    """A number of threads for synchronous work; requests wait for them in the event loop.

    Attributes:
        running: Threads at work, also for requests that have been given up.
        waiting: Requests that wait for a thread.
    """

    def __init__(self, number: int):
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="serving")
        self._free = asyncio.Semaphore(number)
        self.running = self.waiting = 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns `function(*arguments)`; a call that is cancelled keeps its thread to its end."""
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

    It answers what `require_access` raises; 414 for too long a path; 413 for too large a body, also
    one of unknown length and one that is unpacked; 503 where the queue or the memory for bodies is
    full; 408 where the body and 504 where the answer takes too long; 500 for a fault of this
    program. The name of the token is `client` in the request's state.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app, self._settings = app, settings
        self._places = asyncio.Semaphore(settings.threads + settings.queue)
        self._coming: set[_Body] = set()
        self._bytes = 0  # of these

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        body, is_begun = _Body(receive, dict(scope["headers"])), False

        async def begin(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            scope.setdefault("state", {})["client"] = require_access(scope, self._settings)
            if len(scope["path"]) > _LONGEST_PATH:
                raise RequestError(414, f"A path has at most {_LONGEST_PATH} characters.")
            await self._answer_in_time(scope, body, begin)
            return
        except RequestError as error:
            # Its frames hold the request, and futures in them hold it in turn: a circle that would
            # keep the whole body until the next full garbage collection.
            error.__traceback__ = None
            refusal = error
        except ClientDisconnect:
            return
        except Exception as error:
            # Messages may quote what was sent; the lines of the program do not.
            lines = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s is a fault of the server:\n%s", type(error).__name__, lines)
            refusal = RequestError(500, "A fault of the server; its log tells more.")
        if not is_begun:  # where it is, the connection ends within the answer
            response = error_response(refusal)
            if body.is_announced and not body.is_whole:
                await body.drain()
                # What comes of it, or what it seems to be, would be taken for the next request.
                response.headers["Connection"] = "close"
            await response(scope, receive, send)

    async def _answer_in_time(self, scope: Scope, body: "_Body", send: Send) -> None:
        seconds = self._settings.seconds
        with anyio.move_on_after(seconds) as body.timer:
            if scope["method"] == "POST" and not is_open(scope["path"]):
                await self._answer(scope, body, send)
            else:
                await self._app(scope, body.receive, send)
        if body.is_crowded_out:
            raise _crowded()
        if body.timer.cancelled_caught:
            late, status = ("whole body", 408) if body.is_awaited else ("answer", 504)
            raise RequestError(status, f"No {late} within {seconds:g} seconds.")

    async def _answer(self, scope: Scope, body: "_Body", send: Send) -> None:
        """Answers what has a body, once that is whole: slow ones keep nobody from a place."""
        is_gzip = body.is_gzip()
        content = [await self._read(body)]  # a list, so that its last user frees it

        async def receive() -> Message:
            if not content:
                return await body.receive()  # that the client goes away
            return {"type": "http.request", "body": content.pop(), "more_body": False}

        if self._places.locked():
            raise RequestError(503, "The queue is full. Try again in a second.")
        async with self._places:
            if is_gzip:
                most = self._settings.max_body
                content = [await anyio.to_thread.run_sync(_unpacked, content.pop(), most)]
            await self._app(scope, receive, send)

    async def _read(self, body: "_Body") -> bytes:
        """The whole body; where those that come in take too much memory, the largest gives way."""
        most, parts = self._settings.max_body, []
        _require_small(body.length, most)
        self._coming.add(body)
        try:
            while not body.is_whole:
                part = await body.part()
                if body.is_crowded_out:
                    raise _crowded()
                parts.append(part)
                body.size += len(part)
                self._bytes += len(part)
                _require_small(body.size, most)
                if self._bytes > _BODIES * most:
                    largest = max(self._coming, key=lambda one: one.size)
                    if largest is body:
                        raise _crowded()
                    self._forget(largest)
                    largest.is_crowded_out = True
                    largest.timer.cancel()
        finally:
            self._forget(body)
        return b"".join(parts)

    def _forget(self, body: "_Body") -> None:
        if body in self._coming:
            self._coming.remove(body)
            self._bytes -= body.size


class _Body:
    """The body of a request on its way in."""

    timer: anyio.CancelScope  # of its request
    is_crowded_out = False  # whether that was ended for others' sake
    is_whole = False
    is_awaited = False  # whether a part was asked for and has not come
    size = 0  # bytes that have come

    def __init__(self, receive: Receive, headers: dict[bytes, bytes]):
        self.receive, self._headers = receive, headers
        self.length = int(headers.get(b"content-length", 0))  # in bytes, where that is told
        self.is_announced = bool({b"content-length", b"transfer-encoding"} & headers.keys())

    def is_gzip(self) -> bool:
        """Whether it is compressed; a RequestError where it is so in another way."""
        coding = self._headers.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"identity", b"gzip"):
            raise RequestError(415, "Content-Encoding has to be gzip, or left out.")
        return coding == b"gzip"

    async def part(self) -> bytes:
        """Its next part."""
        self.is_awaited = True
        with anyio.move_on_after(_PAUSE) as pause:
            message = await self.receive()
        if pause.cancelled_caught:
            raise RequestError(408, f"Nothing more of the body for {_PAUSE:g} seconds.")
        self.is_awaited = False
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.is_whole = not message.get("more_body", False)
        return message.get("body", b"")

    async def drain(self) -> None:
        """Takes the rest for a while, as many a client sends all of it before it reads."""
        if not self.is_awaited and b"expect" not in self._headers:
            with anyio.move_on_after(_PATIENCE), contextlib.suppress(ClientDisconnect):
                while not self.is_whole:
                    await self.part()


def _crowded() -> RequestError:
    return RequestError(503, "Too much is being sent. Try again in a second.")


def _require_small(size: int, most: int) -> None:
    if size > most:
        raise RequestError(413, f"A request has at most {most} bytes.")


def _unpacked(packed: bytes, most: int) -> bytes:
    """What a gzip stream becomes, where that is at most so many bytes."""
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(packed, most + 1)
    except zlib.error:
        raise RequestError(400, "The body is not gzip, as Content-Encoding says.") from None
    _require_small(len(content), most)
    if stream.unused_data or not stream.eof:
        raise RequestError(400, "The gzip stream ends too early, or something follows it.")
    return content
