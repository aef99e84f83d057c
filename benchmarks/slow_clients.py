"""Holds thousands of connections to `tf-dicom-ce serve` that never finish, and watches (2 min).

Connections say nothing, send half of a head, a byte now and then, a body that stops or trickles,
or take no answer; whatever is cut is opened again. The server has 1,024 file handles. Meanwhile
clients that behave ask for /healthz and for an image, from the same machine. Exits with 1 if one
of them waits longer than a second or is refused, if the log grows beyond 1 MB, or the server dies.
"""

import argparse
import asyncio
import concurrent.futures
import multiprocessing
import os
import resource
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from benchmarks.served import Client, export_untrained, picture, served
from tf_dicom_ce.config import FinetuneConfig

HANDLES = 1024  # of the server
AGAIN = 5.0  # seconds from the cut of a connection to the next
MOST_SECONDS = 1.0
MOST_LOG = 1 << 20
SIZE = (64, 96)
_PATH = "/v1/models/classification:predict"
_HEAD = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\n"
KINDS = {  # what is sent at once, and again and again
    "nothing": (b"", b""),
    "half a head": (_HEAD.encode(), b""),
    "slow head": (_HEAD.encode() + b"X-Slow: ", b"a"),
    "half a body": (f"{_HEAD}Content-Length: 60000\r\n\r\n{{".encode(), b""),
    "slow body": (f"{_HEAD}Content-Length: 60000\r\n\r\n".encode(), b" "),
    "slow chunks": (f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\n \r\n"),
    "no reader": (b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
}


class Slow(asyncio.Protocol):
    """A connection, which is opened anew when it is cut; `counts` are of all."""

    def __init__(self, port: int, kind: str, counts: dict[str, int]):
        self._port, self._kind, self._counts = port, kind, counts
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Connects; later again where that fails."""
        try:
            await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError:
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._counts["opened"] += 1
        self._transport = transport
        if self._kind == "no reader":
            transport.pause_reading()
        transport.write(KINDS[self._kind][0])
        self._go_on()

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(KINDS[self._kind][1])
            self._loop.call_later(2, self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        self._loop.call_later(AGAIN, lambda: self._loop.create_task(self.open()))


async def attack(port: int, number: int, seconds: float) -> dict[str, int]:
    """Holds so many connections of all kinds for so long."""
    counts = {"opened": 0}
    for k in range(number):
        slow = Slow(port, list(KINDS)[k % len(KINDS)], counts)
        asyncio.get_running_loop().call_later(
            k / 1000, lambda slow=slow: asyncio.get_running_loop().create_task(slow.open())
        )
    await asyncio.sleep(seconds)
    return counts


def attacked(port: int, number: int, seconds: float) -> int:
    """How many were opened, by a process that does nothing else."""
    return asyncio.run(attack(port, number, seconds))["opened"]


class Good(threading.Thread):
    """Asks a question again and again, and notes how long the answer took, or what went wrong."""

    def __init__(self, ask, stop: threading.Event):
        super().__init__()
        self._ask, self._stop_asking, self.seconds, self.faults = ask, stop, [], []

    def run(self) -> None:
        """Asks until it is told to stop."""
        while not self._stop_asking.wait(0.1):
            begin = time.perf_counter()
            try:
                self._ask()
            except Exception as error:
                self.faults.append(f"{type(error).__name__}: {error}"[:100])
            self.seconds.append(time.perf_counter() - begin)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60)


def run(options: argparse.Namespace) -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stop, image = threading.Event(), picture(*SIZE, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        root, log = Path(folder) / "models", Path(folder) / "log"
        config = FinetuneConfig(task="classification", image_size=SIZE, width=1 / 16)
        export_untrained(root, config)
        resource.setrlimit(resource.RLIMIT_NOFILE, (HANDLES, hard))
        with served(root, log) as (port, pid):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

            def health():
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).close()

            kept = Client(port, "classification", image)
            clients = {
                "/healthz": Good(health, stop),
                "image, kept connection": Good(kept.ask, stop),
                "image, new connection": Good(
                    lambda: Client(port, "classification", image).close(), stop
                ),
            }
            for client in clients.values():
                client.start()
            try:
                spawn = multiprocessing.get_context("spawn")
                with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
                    asked = port, options.connections, options.seconds
                    opened = pool.submit(attacked, *asked).result()
            finally:
                stop.set()
                for client in clients.values():
                    client.join()
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            processor = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        written = log.stat().st_size
    print(
        f"{options.connections} slow connections for {options.seconds:g} s: opened {opened} times, "
        f"{processor:.0f} s of the server's processor. Log: {written} bytes"
    )
    failed = written > MOST_LOG
    for name, client in clients.items():
        slowest = max(client.seconds)
        median = sorted(client.seconds)[len(client.seconds) // 2]
        print(
            f"{name:23} {len(client.seconds):5} asked, median {1000 * median:.0f} ms, slowest "
            f"{1000 * slowest:.0f} ms, {len(client.faults)} faults {client.faults[:3] or ''}"
        )
        failed |= bool(client.faults) or slowest > MOST_SECONDS
    print("Goals NOT met." if failed else "Goals met.")
    return int(failed)
