"""The process that serves: socket, log, signals, memory."""

import ctypes
import functools
import gc
import logging
import math
import platform
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.serving.app import create_app
from tf_dicom_ce.serving.connections import Connection
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.settings import Settings

_M_MMAP_THRESHOLD = -3  # of mallopt(3), as <malloc.h> has it
_LARGE = 1 << 20  # bytes
_BACKLOG = 4096  # connections that may wait to be accepted
_AT_ONE_GO = 64  # of these that are accepted at once
_LINES = 50  # log lines of a level in a second
_DRAIN_SECONDS = 2.0  # in which load balancers notice that /readyz says 503


def serve(root: Path, settings: Settings) -> None:
    """Serves a model repository, `<root>/<name>/<version>/`, until SIGTERM or Ctrl-C.

    After SIGTERM /readyz answers 503, so that load balancers turn away. Two seconds later the
    server stops listening, answers what is under way, and returns.

    Raises:
        UserError: There is no such folder, or the address cannot be used.
        KeyboardInterrupt: After Ctrl-C, once everything is answered.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. Give the one that train or finetune exports to.")
    listening = _listen(settings)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("tf_dicom_ce.serving").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sparing(_LINES))
    if platform.libc_ver()[0] == "glibc":
        # Large blocks go back to the system as soon as they are free. By itself glibc raises this
        # bound to 32 MiB; then bodies and images lie in heaps, which grow for hours.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    gc.freeze()  # TensorFlow's many objects stay; a look through all of them takes half a second
    repository = Repository(root)
    server = Server(create_app(repository, settings), settings)
    repository.start()
    try:
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        print(f"Serving {root} at {url}, its API at /docs. Ctrl-C stops.", flush=True)
        server.run([listening])
    finally:
        repository.close()


class Server(uvicorn.Server):
    """Serves what `create_app` made; after SIGTERM it says that it ends, and returns later."""

    def __init__(self, app: Starlette, settings: Settings):
        config = uvicorn.Config(
            app,
            http=functools.partial(Connection, app.state.connections),
            log_config=None,
            access_log=False,  # it would log paths and addresses
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            backlog=_AT_ONE_GO,
            timeout_graceful_shutdown=math.ceil(settings.seconds) + 1,
        )
        super().__init__(config)
        self._state, self._end = app.state, math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets many wait, but accepts few at once, so that the file handles suffice."""
        await super().startup(sockets)
        for listening in sockets:
            listening.listen(_BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Announces the end; a second signal, or Ctrl-C, does not wait for it."""
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        self._end = time.monotonic() + (0 if self._state.draining else _DRAIN_SECONDS)
        self._state.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end, asked ten times a second."""
        return await super().on_tick(counter) or time.monotonic() >= self._end


class Sparing(logging.Filter):
    """Lets pass so many records of a level in a second; the next tells how many it left out."""

    def __init__(self, most: int):
        super().__init__()
        self._most, self._counts = most, {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is logged."""
        now = int(record.created)
        second, count = self._counts.get(record.levelno, (now, 0))
        if second != now:
            if count > self._most:
                record.msg = f"({count - self._most} lines left out) {record.msg}"
            count = 0
        self._counts[record.levelno] = now, count + 1
        return count < self._most


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        address = (settings.host, settings.port)
        listening = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(
            f"--host {settings.host} --port {settings.port}: {error.strerror}. Choose another port "
            "(0 for any that is free), or an address of this machine."
        ) from None
    # Without it the end of an answer waits 40 ms for the client's acknowledgement of its start.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
