"""What a request may cost: a token, a place in the queue, bytes, seconds, a thread."""

import asyncio
import hmac
import logging
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.settings import Settings

#: Answered without a token: they tell nothing of models or images, and the page, which links to
#: /docs, asks for the token itself.
OPEN_PATHS = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")
_OPEN_FOLDER = "/static/"
_LONGEST_PATH = 1000  # characters
_PATIENCE = 2.0  # seconds for the rest of a body that nobody wants
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

    Answers 401 without the token, 414 for an endless path, 503 beyond the queue, 413 for too long
    a body (also one of unknown length), 408 where the body and 504 where the answer takes too
    long, 500 for a fault of this program.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app, self._settings = app, settings
        self._admitted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings.max_body)
        try:
            self._require_token(scope)
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

    def _require_token(self, scope: Scope) -> None:
        token, path = self._settings.token, scope["path"]
        if token is None or path in OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, credentials = given.partition(b" ")
        same = hmac.compare_digest(credentials.strip(), token.encode())
        if scheme.lower() != b"bearer" or not same:
            raise RequestError(401, "This server asks for 'Authorization: Bearer <token>'.")

    async def _answer_in_time(self, exchange: "_Exchange") -> None:
        """Only requests with a body take a place, so that status and health answer under load."""
        takes_place = exchange.scope["method"] not in ("GET", "HEAD")
        if takes_place and self._admitted >= self._settings.threads + self._settings.queue:
            raise RequestError(503, "The queue is full. Try again in a second.")
        self._admitted += takes_place
        try:
            # anyio's, not asyncio's: a thread of anyio keeps its place until it ends.
            with anyio.move_on_after(self._settings.seconds) as timer:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            self._admitted -= takes_place
        if timer.cancelled_caught:
            late, status = ("whole body", 408) if exchange.waits_for_body else ("answer", 504)
            raise RequestError(status, f"No {late} within {self._settings.seconds:g} seconds.")


class _Exchange:
    """A request on its way in, its bytes counted, and its answer on its way out.

    Attributes:
        waits_for_body: Whether a part of the body was asked for and did not come.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body: int):
        self.scope = scope
        self._receive, self._send, self._max_body = receive, send, max_body
        self._headers, self._seen = dict(scope["headers"]), 0
        self._is_whole = self._started = self.waits_for_body = False

    async def receive(self) -> Message:
        """Raises RequestError where the body is longer than allowed, or says that it will be."""
        if not self._seen:
            length = self._headers.get(b"content-length", b"")
            self._require_short(int(length) if length.isdigit() and len(length) < 20 else 0)
        self.waits_for_body = not self._is_whole
        message = await self._receive()
        self.waits_for_body = False
        self._is_whole = not message.get("more_body", False)
        self._seen += len(message.get("body", b""))
        self._require_short(self._seen)
        return message

    async def send(self, message: Message) -> None:
        self._started = True
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Answers with the error; where an answer has begun, the connection ends within it."""
        if self._started:
            return
        # Many a client sends to the end before it reads an answer.
        if not self.waits_for_body and b"expect" not in self._headers:
            with anyio.move_on_after(_PATIENCE):
                while not self._is_whole:
                    message = await self._receive()
                    self._is_whole = not message.get("more_body", False)
        await error_response(error)(self.scope, self._receive, self._send)

    def _require_short(self, size: int) -> None:
        if size > self._max_body:
            raise RequestError(413, f"A request has at most {self._max_body} bytes.")
