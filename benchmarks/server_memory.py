"""Asks `tf-dicom-ce serve` 100,000 times, and tells its memory on the way (15 min).

Five clients ask for classes, for masks, and about an image file as the page does, each as fast as
it is answered. Exits with 1 if a request fails, or if the server and its workers need more memory
at the end than half-way.
"""

import argparse
import concurrent.futures
import itertools
import tempfile
import urllib.request
from pathlib import Path

from benchmarks.served import CLASSES, Client, export_untrained, megabytes, picture, served
from tf_dicom_ce.config import FinetuneConfig

SHARES = (0.01, 0.1, 0.5, 1.0)  # of the requests, after which memory is read
GROWTH_MB = 25  # from the third of these to the last
SIZE = (64, 96)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=100_000)


def run(options: argparse.Namespace) -> int:
    marks = {round(share * options.requests): 0.0 for share in SHARES}
    numbers = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:
        root, log = Path(folder) / "models", Path(folder) / "log"
        for task in CLASSES:
            export_untrained(root, FinetuneConfig(task=task, image_size=SIZE, width=1 / 16))
        with served(root, log) as (port, pid):
            url = f"http://127.0.0.1:{port}/v1/models/segmentation/dicom?picture=true"
            image = picture(*SIZE, seed=4)
            about_file = urllib.request.Request(url, image, {"Content-Type": "image/png"})

            def go_on(ask):
                for number in itertools.takewhile(options.requests.__ge__, numbers):
                    ask()
                    if number in marks:
                        marks[number] = server, *workers = megabytes(pid)
                        print(
                            f"{number:,} requests: server {server:.0f} MB, "
                            f"{len(workers)} other processes {sum(workers):.0f} MB",
                            flush=True,
                        )

            asks = [lambda: urllib.request.urlopen(about_file, timeout=60).close()]
            for seed, task in enumerate((*CLASSES, *CLASSES)):
                signature = {"segmentation": "serving_mask"}.get(task, "serving_default")
                asks.append(Client(port, task, picture(*SIZE, seed), signature).ask)
            with concurrent.futures.ThreadPoolExecutor(len(asks)) as pool:
                list(pool.map(go_on, asks))
    *_, half, end = map(sum, marks.values())
    failed = end - half > GROWTH_MB
    print("Goals NOT met." if failed else "Goals met.")
    return int(failed)
