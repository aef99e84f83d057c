"""Sends hostile requests to `tf-dicom-ce serve` along with good clients, and watches (40 min).

The requests have bad JSON, ragged and wrong tensors, damaged images and DICOM, bombs, paths out of
the repository, and malformed HTTP. Prints the number of answers with each status, by kind. Exits
with 1 if the server died, answered 5xx other than 503, left an HTTP request without an answer,
logged a fault of its own, gave a good client another answer than alone, or if the server or its
largest worker needed more memory in the last quarter of the run than in the third.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import re
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.hostile_requests import MODELS, Hostile
from benchmarks.served import Client, export_untrained, picture, served
from benchmarks.tables import aligned
from tf_dicom_ce.config import FinetuneConfig

SECONDS = 60  # for an answer
GROWTH_MB = 25  # from the median of the third quarter to that of the last one
SIZE = (64, 96)


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


def megabytes(pid: int) -> list[float]:
    """Memory of a process and of each child; shared memory is divided (Linux's Pss)."""
    found, todo = [], [pid]
    for number in todo:
        folder = Path("/proc") / str(number)
        with contextlib.suppress(OSError):  # it has just ended
            rollup = (folder / "smaps_rollup").read_text()
            found.append(int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1]) / 1024)
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return found


def medians(series: list[float], parts: int) -> list[float]:
    """Medians of equal parts of a series."""
    return [statistics.median(part) for part in np.array_split(series, parts) if len(part)]


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
        self.memory: dict[str, list[float]] = {"server": [], "largest worker": [], "all": []}

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
        if number % 100 == 99:
            server, *workers = megabytes(self._pid) or [0.0]
            for name, number in (
                ("server", server),
                ("largest worker", max(workers, default=0)),
                ("all", server + sum(workers)),
            ):
                self.memory[name].append(number)


def tenths(series: list[float]) -> list[str]:
    """Medians of tenths of a series, and its highest."""
    return [f"{number:.0f}" for number in (*medians(series, 10), max(series, default=0))]


def table(counts: collections.Counter) -> str:
    """The number of answers with each status, by kind."""
    statuses = sorted({status for _, status in counts}, key=str)
    rows = [["", *map(str, statuses)]]
    for kind in sorted({kind for kind, _ in counts}):
        rows.append([kind, *(str(counts[kind, status] or "") for status in statuses)])
    return aligned(rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4, help="hostile ones at a time")


def run(options: argparse.Namespace) -> int:
    start, stop = time.perf_counter(), threading.Event()
    hostile = Hostile(options.seed, picture(*SIZE, seed=0))
    with tempfile.TemporaryDirectory() as folder:
        root, log = Path(folder) / "models", Path(folder) / "log"
        for task in MODELS:
            export_untrained(root, FinetuneConfig(task=task, image_size=SIZE, width=1 / 16))
        with served(root, log) as (port, pid):
            neighbours = [Neighbour(port, model, stop) for model in MODELS]
            attack = Attack(port, pid, hostile)
            for neighbour in neighbours:
                neighbour.start()
            try:
                with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
                    for _ in pool.map(attack.send, range(options.count)):
                        pass
            finally:
                stop.set()
                for neighbour in neighbours:
                    neighbour.join()
        said = [line for line in log.read_text().splitlines() if "fault of the server" in line]
    faults = attack.faults + said
    for neighbour in neighbours:
        faults += [f"good neighbour: {fault}" for fault in neighbour.faults]
    print(table(attack.counts))
    print("Memory in MB, medians of tenths of the run, and the highest:")
    print(aligned([[name, *tenths(series)] for name, series in attack.memory.items()]))
    for name in ("server", "largest worker"):
        quarters = medians(attack.memory[name], 4)
        growth = quarters[3] - quarters[2] if len(quarters) == 4 else 0.0
        if growth > GROWTH_MB:
            faults.append(f"{name}: {growth:+.0f} MB from the third quarter to the last")
    for fault in faults[:50]:
        print(fault)
    print(
        f"{options.count} requests, seed {options.seed}: {len(faults)} faults. Good neighbours: "
        f"{sum(n.asked for n in neighbours)} requests, {sum(n.busy for n in neighbours)} of them "
        f"503. {time.perf_counter() - start:.0f} s"
    )
    return 1 if faults else 0
