"""Maps a function over items in processes; a process that dies or hangs costs one item."""

import atexit
import collections
import contextlib
import enum
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

from tf_dicom_ce import __version__
from tf_dicom_ce.child_process import ROOT, SAFE
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.errors import UserError

_JOINING = 60  # seconds for scheduler and workers to start, as if one job starts all of them
_PARTITION = 16  # chunks that go to a worker of a cluster at once
_AHEAD = 4  # chunks per worker that run or wait
_PATIENCE = 0.02  # seconds over which a worker gathers results before it sends them
_LONGEST = 70  # characters of TMPDIR; the path of a socket below it may have 107
_ADDRESS_SPACE = 8 << 30  # bytes; a worker that wants more gets a MemoryError
# Workers are forked from a server that has loaded these modules. A fork takes milliseconds and, as
# it is not a fork of this process, copies no thread of TensorFlow.
_PRELOADED = ["tf_dicom_ce.dicom.reader", "tf_dicom_ce.dicom.pictures", "tf_dicom_ce.tags.schema"]


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
    """Yields `function(item)` for every item, in order, with a bounded number at work.

    Args:
        function: A function of a module, so that other processes find it, without state. Its
            exceptions are raised here.
        items: Anything that can be pickled; read as needed.
        lost: The result of an item whose worker died or took too long.
        workers: Number of processes, by default one per core. Within `cluster`, all of the
            cluster's.
        timeout: Seconds for one item.
        chunk: Items sent to a worker at once.

    Raises:
        RuntimeError: Worker processes cannot start at all.
    """
    if _client is not None:
        yield from _cluster_map(function, items, lost, timeout, chunk)
        return
    items, size = iter(items), workers or os.cpu_count() or 1
    chunks = iter(lambda: tuple(itertools.islice(items, chunk)), ())
    idle: collections.deque[Worker] = collections.deque()
    under_way: collections.deque[futures.Future] = collections.deque()
    pool: list[Worker] = []

    def work(given: tuple) -> list[Any]:
        worker = idle.popleft()
        results = worker(given)
        idle.append(worker)
        return results

    threads = futures.ThreadPoolExecutor(size)
    try:
        while True:
            running = [one for one in under_way if not one.done()]
            has_room = len(running) < size and len(under_way) < _AHEAD * size
            if has_room and (given := next(chunks, None)):
                if len(pool) < size:
                    pool.append(Worker(function, lost, timeout))
                    idle.append(pool[-1])
                under_way.append(threads.submit(work, given))
            elif under_way and under_way[0].done():
                yield from under_way.popleft().result()
            elif running:
                futures.wait(running, return_when=futures.FIRST_COMPLETED)
            else:
                return
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in pool:
            worker.end()


_client: Any = None  # client of the Dask cluster, within `cluster`


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Lets `guarded_map` work on a Dask cluster: on other machines, if the disk is shared.

    Every partition goes to one of the cluster's workers, which gives it to a process of its own.
    The partition of a lost worker is repeated. Results and their order do not depend on the worker.

    Args:
        address: The scheduler's address, such as tcp://HOST:8786; None for processes of this
            machine.

    Raises:
        UserError: No scheduler answers there, or its workers have another version of this package.
    """
    global _client
    if address is None:
        yield
        return
    from distributed import Client

    remedy = "Start one: dask scheduler --host 127.0.0.1, and dask worker tcp://127.0.0.1:8786"
    try:
        client = Client(address, timeout=_JOINING, set_as_default=False)
    except (OSError, ValueError) as error:
        name = type(error).__name__
        raise UserError(
            f"--engine {address}: no Dask scheduler there ({name}). {remedy}."
        ) from None
    with client:
        _require_workers(address, client)
        print(f"Dask dashboard: {client.dashboard_link}", file=sys.stderr)
        _client = client
        try:
            yield
        finally:
            _client = None


def _require_workers(address: str, client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=_JOINING)
    except TimeoutError:
        raise UserError(
            f"--engine {address}: no worker came within {_JOINING} s. Start one: dask worker "
            f"{address}."
        ) from None
    try:
        versions = set(client.run(_version).values())
    except ImportError as error:
        raise UserError(
            f"--engine {address}: its workers lack {error.name}. Install tf-dicom-ce {__version__} "
            "there, too."
        ) from None
    if versions != {__version__}:
        raise UserError(
            f"--engine {address}: its workers have tf-dicom-ce {', '.join(sorted(versions))}, this "
            f"computer has {__version__}. Install the same version."
        )


def _version() -> str:
    return __version__


def _cluster_map(
    function: Callable, items: Iterable, lost: Callable, timeout: float, chunk: int
) -> Iterator[Any]:
    """`guarded_map` on the cluster, by partitions, with a few per worker at work."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    items = iter(items)
    partitions = iter(lambda: tuple(itertools.islice(items, _PARTITION * chunk)), ())
    under_way: collections.deque = collections.deque()
    work = functools.partial(_work, function, lost, timeout, chunk)
    try:
        while True:
            size = sum(_client.nthreads().values()) or 1
            while len(under_way) < 2 * size and (given := next(partitions, None)):
                # The dashboard shows the key, so it must not name the work.
                key = f"partition-{uuid.uuid4().hex}"
                under_way.append(_client.submit(work, given, key=key, pure=False))
            if not under_way:
                return
            yield from under_way.popleft().result()
    except (futures.CancelledError, CommClosedError, KilledWorker) as error:
        raise UserError(
            "--engine: the cluster has lost its scheduler or its workers "
            f"({type(error).__name__}). Start it, and repeat the command: finished work is kept."
        ) from None
    finally:
        for future in under_way:
            future.cancel()


def _work(
    function: Callable, lost: Callable, timeout: float, chunk: int, items: tuple
) -> list[Any]:
    """Does a partition, in a worker of the cluster."""
    return list(guarded_map(function, items, lost, 1, timeout, chunk))


def warm_up(*modules: str) -> None:
    """Starts the server that workers are forked from; it loads while this process continues.

    Saves a quarter of a second if called before the imports for reading.

    Args:
        modules: What else the server is to load; every worker would load it by itself.
    """
    _PRELOADED.extend(modules)
    _context()
    with _detached():
        forkserver.ensure_running()


class Worker:
    """A process that works on items; one that dies or hangs costs an item and is replaced.

    The arguments are those of `guarded_map`.
    """

    def __init__(self, function: Callable, lost: Callable[[Outage], Any], timeout: float):
        self._function, self._lost, self._timeout = function, lost, timeout
        self._ended = False
        self._start()

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        """The results of items, in order; an exception of the function is raised here."""
        results: list[Any] = []
        one_by_one = False  # each result is sent at once, to know which item failed
        while len(results) < len(items) and not self._ended:
            with contextlib.suppress(ConnectionError):  # a dead process is noticed below
                self._connection.send((items[len(results) :], one_by_one))
            while len(results) < len(items):
                found = self._receive()
                if isinstance(found, Exception):
                    raise found
                if isinstance(found, Outage):
                    results += [self._lost(found)] if one_by_one else []
                    one_by_one = True
                    self._restart()
                    break
                results += found
        if self._ended:
            self._process.kill()  # it may have started meanwhile
        return results

    def end(self) -> None:
        """Ends the process, from any thread, without a successor."""
        self._ended = True
        self._process.kill()

    def _start(self) -> None:
        context = _context()
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._function), daemon=True)
        with _detached():
            self._process.start()
        theirs.close()
        try:
            self._connection.recv()
        except EOFError:
            raise RuntimeError("a worker process ended before it could start") from None

    def _restart(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()
        if not self._ended:
            self._start()

    def _receive(self) -> list[Any] | Exception | Outage:
        try:
            if not self._connection.poll(self._timeout):
                return Outage.TIMED_OUT
            return self._connection.recv()
        except (EOFError, ConnectionError):
            return Outage.DIED


class Failure(NamedTuple):
    """An exception by its class alone, because messages quote the values of elements."""

    name: str


class GuardedCalls:
    """Worker processes that outlive a call, as many as there were simultaneous calls.

    A call whose process dies or exceeds the time limit is repeated once.
    """

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._idle: list[Worker] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function of a module with arguments that can be pickled, from any thread.

        Returns:
            The result; an `Outage` if the worker died or took too long; a `Failure` if the function
            raised an exception.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = Worker(_call, lambda outage: outage, self._timeout)
        try:
            (result,) = worker([(function, arguments)])
        except BaseException:
            worker.end()
            raise
        self._idle.append(worker)
        return result


def _call(item: tuple[Callable[..., Any], tuple]) -> Any:
    function, arguments = item
    try:
        return function(*arguments)
    except Exception as error:
        return Failure(type(error).__name__)


def _context() -> ForkServerContext:
    if len(tempfile.gettempdir()) > _LONGEST:
        multiprocessing.current_process()._config.setdefault("tempdir", _short_folder())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


@functools.cache
def _short_folder() -> str:
    """A folder for sockets, which is deleted when this process ends."""
    folder = tempfile.mkdtemp(prefix="pymp-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_STARTING = threading.Lock()


@contextlib.contextmanager
def _detached() -> Iterator[None]:
    """Keeps a new process from running the user's script and files of the working folder.

    The script would run again. The working folder holds data, even a file called `selectors.py`. A
    worker of Dask is a daemon, which may have no children; these children end with their
    connection.
    """
    own = multiprocessing.current_process()._config
    main = vars(sys.modules["__main__"])
    with _STARTING:
        path, folders = sys.path[:], {"", str(Path.cwd()), multiprocessing.process.ORIGINAL_DIR}
        kept = {name: main.get(name) for name in ("__file__", "__spec__")}
        environment = {name: os.environ.get(name) for name in SAFE}
        main.update(dict.fromkeys(kept))
        daemon = own.pop("daemon", None)
        os.environ.update(SAFE)
        sys.path[:] = [entry for entry in path if entry not in folders]
        if ROOT not in sys.path:
            sys.path.append(ROOT)
        try:
            yield
        finally:
            main.update(kept)
            own |= {} if daemon is None else {"daemon": daemon}
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
