"""Maps a function over items in processes that may die or hang, at the cost of one item each."""

import collections
import contextlib
import enum
import itertools
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tf_dicom_ce.child_process import ROOT, SAFE
from tf_dicom_ce.dicom.quiet import quiet

_AHEAD = 4  # chunks a worker that are under way or wait for their turn
_PATIENCE = 0.02  # seconds over which a worker gathers results before it sends them
_ADDRESS_SPACE = 8 << 30  # bytes; a worker that wants more gets a MemoryError
# Workers are forked from a server that has these loaded: that takes milliseconds, and no thread of
# TensorFlow is copied, as it would be by a fork of this process.
_PRELOADED = ["tf_dicom_ce.dicom.reader", "tf_dicom_ce.dicom.pictures", "tf_dicom_ce.dicom.tags"]


class Outage(enum.Enum):
    """Why an item has no result."""

    DIED = "the worker's process ended"
    TIMED_OUT = "the time limit was exceeded"


def guarded_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    lost: Callable[[Outage], Any],
    workers: int | None = None,
    timeout: float = 60.0,
    chunk: int = 16,
) -> Iterator[Any]:
    """Yields `function(item)` of every item, in order, with a bounded number under way.

    Args:
        function: Of a module, so that other processes find it; must keep no state.
        items: Anything that can be pickled; taken as they are needed.
        lost: The result of an item whose worker died or took too long.
        workers: Processes; by default one a core.
        timeout: Seconds for one item.
        chunk: Items sent to a worker at once.

    Yields:
        The results. An exception of `function` is raised here.

    Raises:
        RuntimeError: Worker processes cannot start at all.
    """
    items = iter(items)
    deque = collections.deque
    chunks = enumerate(iter(lambda: deque(itertools.islice(items, chunk)), deque()))
    pool = Pool(function, lost, workers or os.cpu_count() or 1, timeout)
    turn = 0  # number of the chunk whose results are yielded next
    try:
        while True:
            while pool.has_room and (numbered := next(chunks, None)):
                pool.submit(*numbered)
            if turn in pool.done:
                yield from pool.done.pop(turn)
                turn += 1
            elif pool.busy:
                pool.wait()
            else:
                return
    finally:
        pool.kill()


def warm_up() -> None:
    """Starts what workers are forked from, so that it gets ready while this process goes on.

    Worth a quarter of a second if it is called before the imports that reading takes.
    """
    _context()
    with _detached():
        forkserver.ensure_running()


class Pool:
    """Workers, and the chunks that they are done with but whose turn has not come."""

    def __init__(self, function: Callable, lost: Callable, size: int, timeout: float):
        self._function, self._lost, self._size, self._timeout = function, lost, size, timeout
        self._idle: list[_Worker] = []
        self.busy: list[_Worker] = []
        self.done: dict[int, list[Any]] = {}

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be submitted."""
        under_way = len(self.busy) + len(self.done)
        return len(self.busy) < self._size and under_way < _AHEAD * self._size

    def submit(
        self,
        number: int,
        items: collections.deque,
        results: Iterable[Any] = (),
        one_by_one: bool = False,
    ) -> None:
        """Starts a chunk.

        Args:
            number: Of the chunk; its results will be `done[number]`.
            items: What is left of it.
            results: What is known of it.
            one_by_one: Send each result as soon as it is there, to know which item is to blame.
        """
        worker = self._idle.pop() if self._idle else _Worker(self._function)
        self.busy.append(worker)
        worker.number, worker.items, worker.results = number, items, list(results)
        worker.one_by_one, worker.deadline = one_by_one, time.monotonic() + self._timeout
        worker.connection.send((tuple(items), one_by_one))

    def wait(self) -> None:
        """Takes results that have arrived, or buries a worker that died or is late."""
        until = min(worker.deadline for worker in self.busy)
        ready = multiprocessing.connection.wait(
            [worker.connection for worker in self.busy], max(0.0, until - time.monotonic())
        )
        for worker in tuple(self.busy):
            if worker.connection in ready:
                try:
                    results = worker.connection.recv()
                except (EOFError, ConnectionError):
                    self._bury(worker, Outage.DIED)
                    continue
                if isinstance(results, Exception):
                    raise results
                self._take(worker, results)
                if not worker.items:
                    self._idle.append(worker)
            elif time.monotonic() > worker.deadline:
                self._bury(worker, Outage.TIMED_OUT)

    def _bury(self, worker: "_Worker", outage: Outage) -> None:
        """Gives the rest of the chunk to a new worker, which tells of every item by itself."""
        worker.kill()
        if worker.one_by_one:
            self._take(worker, [self._lost(outage)])
        if worker.items:
            self.busy.remove(worker)
            self.submit(worker.number, worker.items, worker.results, one_by_one=True)

    def _take(self, worker: "_Worker", results: list[Any]) -> None:
        for result in results:
            worker.items.popleft()
            worker.results.append(result)
        worker.deadline = time.monotonic() + self._timeout
        if not worker.items:
            self.busy.remove(worker)
            self.done[worker.number] = worker.results

    def kill(self) -> None:
        """Ends all workers."""
        for worker in (*self.busy, *self._idle):
            worker.kill()


class _Worker:
    """A process and the chunk it works on: items without a result yet, and results."""

    def __init__(self, function: Callable[[Any], Any]):
        context = _context()
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        with _detached():
            self._process.start()
        theirs.close()
        try:
            self.connection.recv()
        except EOFError:
            raise RuntimeError("a worker process ended before it could start") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


_STARTING = threading.Lock()


@contextlib.contextmanager
def _detached() -> Iterator[None]:
    """Keeps a new process from two things that it must not run, and needs nothing of.

    The user's script, which would run again; and what lies in the working folder, which is data,
    also where it is called `selectors.py`.
    """
    main = vars(sys.modules["__main__"])
    with _STARTING:
        path, folders = sys.path[:], {"", str(Path.cwd()), multiprocessing.process.ORIGINAL_DIR}
        kept = {name: main.get(name) for name in ("__file__", "__spec__")}
        environment = {name: os.environ.get(name) for name in SAFE}
        main.update(dict.fromkeys(kept))
        os.environ.update(SAFE)
        sys.path[:] = [entry for entry in path if entry not in folders]
        if ROOT not in sys.path:
            sys.path.append(ROOT)
        try:
            yield
        finally:
            main.update(kept)
            sys.path[:] = path
            for name, value in environment.items():
                os.environ.pop(name)
                os.environ |= {} if value is None else {name: value}


def _serve(connection: multiprocessing.connection.Connection, function: Callable) -> None:
    """The worker's process: chunks of items in, lists of results out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        connection.send(None)  # ready
        while True:
            items, one_by_one = connection.recv()
            results, sent = [], time.monotonic()
            with quiet():
                for item in items:
                    results.append(function(item))
                    if one_by_one or time.monotonic() > sent + _PATIENCE:
                        connection.send(results)
                        results, sent = [], time.monotonic()
            if results:
                connection.send(results)
    except (EOFError, ConnectionError):
        return  # the parent is gone
    except Exception as error:
        connection.send(error)
