"""A model repository with an untrained head, `tf-dicom-ce serve` on it, and a client."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.reading.generated import speckle
from benchmarks.turns import code_of
from tf_dicom_ce.config import FinetuneConfig

CLASSES = {
    "classification": ["poor", "fair", "good"],
    "segmentation": ["background", "liver", "kidney"],
}


def export_untrained(root: Path, config: FinetuneConfig, encoder: str = "none") -> Path:
    """Exports a head of three classes on an encoder (`none`: untrained); the version's folder."""
    import keras

    from tf_dicom_ce.models.backbones import describe_encoder, load_encoder
    from tf_dicom_ce.training.networks import build_head

    keras.utils.set_random_seed(0)
    layer = None
    if encoder != "none":
        layer, metadata = load_encoder(encoder), describe_encoder(encoder)
        size = {"image_size": tuple(metadata["image_size"]), "width": metadata["width"]}
        config = FinetuneConfig(task=config.task, **size)
    classes = CLASSES[config.task]
    content = {**config.as_dict(), "classes": classes, "data_fingerprint": "none"}
    content["synthetic_data"] = True
    head = build_head(config, layer, len(classes))
    return head.export(root / config.task, metadata=content)


@contextlib.contextmanager
def served(root: Path, log: Path, checkout: Path | None = None) -> Iterator[tuple[int, int]]:
    """Serves a repository in another process, at a free port of this machine.

    Args:
        root: The repository.
        log: File for the server's stderr.
        checkout: Folder of another checkout, whose server is run; None for this one.

    Yields:
        Port and process id, when the models are loaded. Afterwards the server is stopped.

    Raises:
        RuntimeError: The server ended by itself, or does not end on SIGTERM.
    """
    command = ["-m", "tf_dicom_ce.cli.child", "serve", str(root), "--port", "0"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,  # never written to: the server ends with this process
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=checkout,
            env={**os.environ, **code_of(checkout)},
        ) as process,
    ):
        line = next((line for line in process.stdout if "http://" in line), "")
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if not found:
                raise RuntimeError(f"The server did not start: {log.read_text()}")
            port = int(found[1])
            _wait(process, f"http://127.0.0.1:{port}/readyz")
            yield port, process.pid
            if process.poll() is not None:
                raise RuntimeError(f"The server has ended with code {process.returncode}.")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RuntimeError("The server does not end on SIGTERM.") from None


def _wait(process: subprocess.Popen, url: str) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError("The server did not become ready.")


def megabytes(pid: int) -> list[float]:
    """Own memory of a process and of each child: what is no file's (Linux's RssAnon)."""
    found, todo = [], [pid]
    for number in todo:
        folder = Path("/proc") / str(number)
        with contextlib.suppress(OSError, TypeError):  # it has just ended
            status = (folder / "status").read_text()
            found.append(int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.M)[1]) / 1024)
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return found


def picture(height: int, width: int, seed: int) -> bytes:
    """A PNG with the speckle of ultrasound, about as large a file as a real one."""
    file = io.BytesIO()
    pixels = speckle(height, width, np.random.default_rng(seed))
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Client:
    """An open connection with a prepared request.

    Args:
        port: Of the server, on this machine.
        model: Name of the model.
        image: PNG.
        signature: Name of the signature.
    """

    def __init__(self, port: int, model: str, image: bytes, signature: str = "serving_default"):
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._path = f"/v1/models/{model}:predict"
        instance = {"image_bytes": {"b64": base64.b64encode(image).decode()}}
        self._body = json.dumps({"signature_name": signature, "instances": [instance]})
        self.answer = self.ask()

    def ask(self) -> bytes:
        """Sends it and reads the answer."""
        try:
            return self._ask()
        except ConnectionError:  # the server has closed the idle connection
            self._connection.close()
            return self._ask()

    def close(self) -> None:
        self._connection.close()

    def _ask(self) -> bytes:
        self._connection.request("POST", self._path, self._body)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {content[:200]!r}")
        return content
