"""Sends hostile requests to `tf-dicom-ce serve` along with good clients, and watches (3 min).

The requests have bad JSON, ragged and wrong tensors, damaged images and DICOM, bombs, paths out of
the repository, and malformed HTTP. Tells the number of answers with each status, by kind. Fails if
the server died, answered 5xx other than 503, left an HTTP request without an answer, logged a fault
of its own, gave a good client another answer than alone, or if the server or its largest worker
needed more memory in the last quarter of a run than in the third. Every run goes on with the next
requests; --minutes 40 sends some 20,000.
"""

import collections
import concurrent.futures
import contextlib
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.hostile_requests import MODELS, Hostile
from benchmarks.rounds import Measuring, Stage
from benchmarks.served import Client, export_untrained, megabytes, picture, served
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, none_of
from benchmarks.turns import Round
from tf_dicom_ce.config import FinetuneConfig

STAGES = {"requests": 120.0}
SECONDS = 60  # for an answer
GROWTH_MB = 25  # from the median of the third quarter to that of the last one
SIZE = (64, 96)
_SEED = 20261202
_CLIENTS = 4  # hostile ones at a time
_AT_ONCE = 200  # requests in a round


def ask(port: int, request: bytes, hang_up: bool) -> int | str:
    """Sends the bytes and may hang up; returns the status, or a description of the failure."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        # A server may answer and hang up before it has everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        content = b""
        try:
            while len(content) < 200 and (part := connection.recv(1 << 16)):
                content += part
            while connection.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return "no answer in time"
    found = re.match(rb"(?:HTTP/1\.1 100 \w*\r\n\r\n)?HTTP/1\.1 (\d{3}) ", content)
    return int(found[1]) if found else "closed"


class Neighbour(threading.Thread):
    """A client that repeats the same good request, and compares the answers."""

    def __init__(self, port: int, model: str, stop: threading.Event):
        super().__init__()
        self._client = Client(port, model, picture(*SIZE, seed=1))
        self._true, self._stop_asking = self._numbers(self._client.answer), stop
        self.asked, self.busy, self.faults = 0, 0, []

    @staticmethod
    def _numbers(answer: bytes) -> np.ndarray:
        text = re.search(rb'"probabilities": *(\[[^a-z"]*\])', answer)[1]
        return np.array(re.findall(rb"[-+.\de]+", text), float)

    def run(self) -> None:
        """Asks until it is told to stop."""
        while not self._stop_asking.is_set():
            self.asked += 1
            try:
                found = self._numbers(self._client.ask())
                if not np.allclose(found, self._true, atol=1e-5):
                    self.faults.append("another answer")
            except Exception as error:
                if "HTTP 503" in str(error):
                    self.busy += 1
                else:
                    self.faults.append(repr(error)[:200])


class Attack:
    """All requests of a run, and their results."""

    def __init__(self, port: int, pid: int, hostile: Hostile):
        self._port, self._pid, self._hostile = port, pid, hostile
        self.counts: collections.Counter = collections.Counter()
        self.faults: list[str] = []

    def send(self, number: int) -> None:
        """Sends one request and notes the status."""
        kind, request = self._hostile.request(number)
        try:
            status = ask(self._port, request, hang_up=kind == "http")
        except OSError as error:
            status = type(error).__name__
        self.counts[kind, status] += 1
        answered = isinstance(status, int) and (status < 500 or status == 503)
        # The server may hang up on a client that does not speak HTTP, or exceeds the limit.
        if not answered and (status != "closed" or kind not in ("http", "paths", "bombs")):
            self.faults.append(f"request {number}, {kind}: {status}")

    def memory(self) -> dict[str, float]:
        """Megabytes of the server and of its largest worker."""
        server, *workers = megabytes(self._pid) or [0.0]
        return {"server": server, "largest worker": max(workers, default=0)}


def measure(stage: Measuring, setup: Setup) -> None:
    """Sends requests, each number once, to a server that lives as long as this run."""
    hostile, stop = Hostile(_SEED, picture(*SIZE, seed=0)), threading.Event()
    root, log = setup.folder / "models", setup.folder / "log"
    for task in MODELS:
        export_untrained(root, FinetuneConfig(task=task, image_size=SIZE, width=1 / 16))
    with served(root, log) as (port, pid):
        neighbours = [Neighbour(port, model, stop) for model in MODELS]
        for neighbour in neighbours:
            neighbour.start()
        try:
            stage.keep(_rounds(stage, lambda: Attack(port, pid, hostile), neighbours, log))
        finally:
            stop.set()
            for neighbour in neighbours:
                neighbour.join()


def _rounds(stage: Measuring, begin, neighbours: list[Neighbour], log: Path) -> Iterator[Round]:
    """Rounds of requests; `run` numbers the servers."""
    first, run = stage.facts.get("next", 0), stage.facts.get("run", 0)
    seen = 0
    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
        while True:
            start, attack = time.perf_counter(), begin()
            for _ in pool.map(attack.send, range(first, first + _AT_ONCE)):
                pass
            first += _AT_ONCE
            stage.tell(next=first, run=run + 1)
            said = [line for line in log.read_text().splitlines() if "fault of the server" in line]
            faults, seen = attack.faults + said[seen:], len(said)
            for neighbour in neighbours:
                faults += [f"good neighbour: {fault}" for fault in neighbour.faults]
                neighbour.faults = []
            counts = {f"{kind} {status}": n for (kind, status), n in attack.counts.items()}
            found = {"run": run, "counts": counts, "faults": faults, "memory": attack.memory()}
            found |= {"good": sum(neighbour.asked for neighbour in neighbours)}
            yield time.perf_counter() - start, {"server": [found]}


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """The number of answers with each status, by kind."""
    return [_table(stage) for stage in stages.values()]


def _table(stage: Stage) -> Table:
    counts: collections.Counter = collections.Counter()
    for found in stage.of("server", "counts"):
        counts.update(found)
    cells = {tuple(name.split(" ", 1)): count for name, count in counts.items()}
    statuses = sorted({status for _, status in cells})
    rows = [
        [kind, *(str(cells.get((kind, status), "")) for status in statuses)]
        for kind in sorted({kind for kind, _ in cells})
    ]
    memory = stage.of("server", "memory")
    most = (f"{max(found[name] for found in memory):.0f} MB" for name in memory[0])
    told = ", ".join(f"{name} {size}" for name, size in zip(memory[0], most, strict=True))
    note = "; ".join([f"Memory at its highest: {told}", *_faults(stage)[:50]])
    return Table(f"The server: {counts.total():,} hostile requests", ("", *statuses), rows, note)


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """No fault."""
    return [none_of("Hostile requests: faults", _faults(stage)) for stage in stages.values()]


def _faults(stage: Stage) -> list[str]:
    """Faults of all rounds, and memory that grew towards the end of a run."""
    found = [fault for faults in stage.of("server", "faults") for fault in faults]
    runs, memory = stage.of("server", "run"), stage.of("server", "memory")
    for run in set(runs):
        of_run = [sizes for number, sizes in zip(runs, memory, strict=True) if number == run]
        for name in of_run[0] if len(of_run) >= 4 else ():
            quarters = [
                statistics.median(part) for part in np.array_split([m[name] for m in of_run], 4)
            ]
            if (growth := quarters[3] - quarters[2]) > GROWTH_MB:
                found.append(f"{name}: {growth:+.0f} MB from the third quarter to the last")
    return found
