"""The process that serves: socket, log, signals, memory."""

import ctypes
import gc
import logging
import math
import platform
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.serving.app import create_app
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.settings import Settings

_M_MMAP_THRESHOLD = -3  # of mallopt(3), as <malloc.h> has it
_LARGE = 1 << 20  # bytes
_BACKLOG = 4096  # connections that wait to be accepted
_AT_ONE_GO = 64  # of these
_LINES = 50  # of a level that are logged in a second


def serve(root: Path, settings: Settings) -> None:
    """Serves a model repository, `<root>/<name>/<version>/`, until SIGTERM or Ctrl-C.

    SIGTERM turns /readyz to 503, so that a load balancer looks elsewhere; a little later the server
    stops to listen, answers what is under way, and returns.

    Raises:
        UserError: There is no such folder, or the address cannot be used.
        KeyboardInterrupt: After Ctrl-C, when everything is answered.
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
    _return_large_blocks()
    gc.freeze()  # TensorFlow's many objects stay; to look through them all takes half a second
    repository = Repository(root)
    server = _Server(repository, settings)
    repository.start()
    try:
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        print(f"Serving {root} at {url}, its API at /docs. Ctrl-C stops.", flush=True)
        server.run([listening])
    finally:
        repository.close()


def configured(app: Starlette, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves what `create_app` made."""
    return uvicorn.Config(
        app,
        http=app.state.connections.protocol,
        log_config=None,
        access_log=False,  # it would log paths and addresses
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        backlog=_AT_ONE_GO,
        timeout_graceful_shutdown=math.ceil(settings.seconds) + 1,
    )


class _Server(uvicorn.Server):
    """A server that announces its end, and takes SIGTERM for a reason to return, not to die."""

    def __init__(self, repository: Repository, settings: Settings):
        self._app, self._drain_seconds = create_app(repository, settings), settings.drain_seconds
        super().__init__(configured(self._app, settings))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts a few at one go, so that the file handles suffice, out of a long queue."""
        await super().startup(sockets)
        for listening in sockets:
            listening.listen(_BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends at once on a second signal, or Ctrl-C."""
        draining, self._app.state.draining = self._app.state.draining, True
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif draining:
            self._stop()
        else:
            timer = threading.Timer(self._drain_seconds, self._stop)
            timer.daemon = True
            timer.start()

    def _stop(self) -> None:
        self.should_exit = True


class Sparing(logging.Filter):
    """Passes so many records of a level in a second; the next says how many were left out."""

    def __init__(self, most: int):
        super().__init__()
        self._most, self._passed, self._left_out = most, {}, {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is logged."""
        level, second = record.levelno, int(record.created)
        begun, number = self._passed.get(level, (second, 0))
        self._passed[level] = (second, 1) if second != begun else (second, number + 1)
        if second == begun and number >= self._most:
            self._left_out[level] = self._left_out.get(level, 0) + 1
            return False
        if left_out := self._left_out.pop(level, 0):
            record.msg = f"({left_out} lines left out) {record.msg}"
        return True


def _return_large_blocks() -> None:
    """Has large blocks of memory go back to the system as soon as they are free.

    By itself glibc raises this bound to 32 MiB as large blocks are freed. Then bodies and images
    lie among small blocks in the heaps of many threads, which grow for hours.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


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
