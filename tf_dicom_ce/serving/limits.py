"""What a request may cost: a place in the queue, bytes, seconds."""

import asyncio
import contextlib
import logging
import traceback
import zlib

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
            with anyio.move_on_after(self._settings.seconds) as timer:
                await self._answer(scope, body, begin)
            if timer.cancelled_caught:
                late, status = ("whole body", 408) if body.is_awaited else ("answer", 504)
                raise RequestError(status, f"No {late} within {self._settings.seconds:g} seconds.")
            return
        except RequestError as error:
            # Its frames hold the request, and futures in them hold it in turn: a circle that would
            # keep the whole body until the next full garbage collection.
            refusal = error.with_traceback(None)
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

    async def _answer(self, scope: Scope, body: "_Body", send: Send) -> None:
        """Answers what has a body once that is whole: slow ones keep nobody from a place."""
        if scope["method"] != "POST" or is_open(scope["path"]):
            await self._app(scope, body.receive, send)
            return
        is_gzip, most = body.is_gzip(), self._settings.max_body
        content = [await self._read(body, most)]  # a list, so that its last user frees it

        async def receive() -> Message:
            if not content:
                return await body.receive()  # that the client goes away
            return {"type": "http.request", "body": content.pop(), "more_body": False}

        if self._places.locked():
            raise RequestError(503, "The queue is full. Try again in a second.")
        async with self._places:
            if is_gzip:
                content = [await anyio.to_thread.run_sync(_unpacked, content.pop(), most)]
            await self._app(scope, receive, send)

    async def _read(self, body: "_Body", most: int) -> bytes:
        """The whole body; where those that come in take too much memory, the largest gives way."""
        _require_small(body.length, most)
        parts = []
        self._coming.add(body)
        try:
            with anyio.CancelScope() as body.reading:
                while not body.is_whole and not body.reading.cancel_called:
                    parts.append(await body.part())
                    _require_small(body.size, most)
                    if sum(one.size for one in self._coming) > _BODIES * most:
                        largest = max(self._coming, key=lambda one: one.size)
                        self._coming.remove(largest)
                        largest.reading.cancel()
        finally:
            self._coming.discard(body)
        if body.reading.cancel_called:
            raise RequestError(503, "Too much is being sent. Try again in a second.")
        return b"".join(parts)


class _Body:
    """The body of a request on its way in."""

    reading: anyio.CancelScope  # ends it for others' sake
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
        self.size += len(message.get("body", b""))
        return message.get("body", b"")

    async def drain(self) -> None:
        """Takes the rest for a while, as many a client sends all of it before it reads."""
        if not self.is_awaited and b"expect" not in self._headers:
            with anyio.move_on_after(_PATIENCE), contextlib.suppress(ClientDisconnect):
                while not self.is_whole:
                    await self.part()


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
