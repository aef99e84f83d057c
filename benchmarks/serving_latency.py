"""Measures what HTTP adds to a prediction: `serve` against a SavedModel in process (4 min).

    python -m benchmarks serving_latency                       heads of the paper's size
    python -m benchmarks serving_latency --width 0.25
    python -m benchmarks serving_latency --encoder export/encoder

An image is a PNG of the head's size, 256 x 384 by default; the answer of a segmentation is the
mask. Two figures are measured in turns (A B A B ...), and given as medians: the time of one image
for one client, and images per second, in batches of 8 in process and by 8 clients with one image
each over HTTP. A client sends a prepared request and reads the whole answer, without parsing it.
Exits with 1 if HTTP adds more than 5 ms, or if 8 clients get less than 0.95 of the images. Needs an
idle machine.
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.served import CLASSES, Client, export_untrained, picture, served
from benchmarks.turns import by_turns, timed
from tf_dicom_ce.config import FinetuneConfig

CLIENTS = BATCH = 8
MOST_ADDED_MS = 5
LEAST_RATIO = 0.95
SIGNATURES = {"classification": "serving_default", "segmentation": "serving_mask"}


def of_head(task: str, options: argparse.Namespace) -> dict:
    """Measures one head: seconds of each turn, in process (`here`) and over HTTP."""
    import tensorflow as tf

    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool,
    ):
        config = FinetuneConfig(task=task, width=options.width)
        root = Path(folder) / "models"
        version = export_untrained(root, config, options.encoder)
        content = json.loads((version / f"{task}.json").read_text())
        height, width = content["image_size"]
        images = [picture(height, width, seed) for seed in range(BATCH)]
        predict = tf.saved_model.load(str(version)).signatures[SIGNATURES[task]]

        def in_process(chosen):
            answers = predict(image_bytes=tf.constant(chosen))
            return {name: value.numpy() for name, value in answers.items()}

        with served(root, Path(folder) / "log") as (port, _):
            clients = [Client(port, task, image, SIGNATURES[task]) for image in images]
            check(clients, in_process(images))
            one = alternately(lambda: in_process(images[:1]), clients[0].ask, options.rounds)

            def batches():
                for _ in range(options.requests):
                    in_process(images)

            def together():
                list(pool.map(lambda c: [c.ask() for _ in range(options.requests)], clients))

            many = alternately(batches, together, options.turns)
    return {
        "setting": f"{task}, {height} x {width}, width {content['width']:g}",
        "image_bytes": len(images[0]),
        "answer_bytes": len(clients[0].answer),
        "one": one,
        "many": {**many, "images": BATCH * options.requests},
    }


def alternately(here: Callable, http: Callable, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call of the two, after one of each that does not count."""
    found = by_turns({"here": timed(here), "http": timed(http)}, 0, rounds, pause=0)
    return {side: [measure["seconds"] for measure in of] for side, of in found.items()}


def report(found: dict) -> bool:
    """Prints what was measured of a head; whether both goals are met."""
    print(f"{found['setting']}, PNG of {found['image_bytes']} bytes,")
    print(f"an answer of {found['answer_bytes']} bytes")
    one, many = found["one"], found["many"]
    here, there = (1000 * statistics.median(one[side]) for side in ("here", "http"))
    added = there - here
    row("1 client, ms", here, there, f"added {added:.1f}", f"at most {MOST_ADDED_MS}")
    print(f"  middle half of A {halves(one['here'])}, of B {halves(one['http'])} ms")
    rates = [many["images"] / statistics.median(many[side]) for side in ("here", "http")]
    ratio = rates[1] / rates[0]
    row("8 clients, images/s", *rates, f"ratio {ratio:.2f}", f"at least {LEAST_RATIO}")
    return added <= MOST_ADDED_MS and ratio >= LEAST_RATIO


def check(clients: list[Client], true: dict[str, np.ndarray]) -> None:
    """Both sides have to answer the same, or there is nothing to compare."""
    for k, client in enumerate(clients):
        (found,) = json.loads(client.answer)["predictions"]
        found = {"mask": found} if "mask" in true else found
        for name, values in true.items():
            np.testing.assert_allclose(found[name], values[k], atol=1e-4)


def halves(times: list[float]) -> str:
    low, _, high = statistics.quantiles(times, n=4)
    return f"{1000 * low:.1f}…{1000 * high:.1f}"


def row(what: str, here: float, there: float, result: str, goal: str) -> None:
    print(f"  {what:20} A in process {here:8.1f}   B HTTP {there:8.1f}   {result} (goal: {goal})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", choices=CLASSES, nargs="+", default=list(CLASSES), help="default: both")
    add("--width", type=float, default=1.0, help="of the networks; 1 is VGG16 (default)")
    add("--encoder", default="none", metavar="DIR", help="exported encoder; brings its own size")
    add("--rounds", type=int, default=40, help="turns of one image (default: 40)")
    add("--turns", type=int, default=5, help="turns of many images (default: 5)")
    add("--requests", type=int, default=4, help="of each client in a turn (default: 4)")
    add("--json", type=Path, metavar="FILE", help="also writes all that was measured")


def run(options: argparse.Namespace) -> int:
    import tensorflow as tf

    print(f"{os.cpu_count()} cores, TensorFlow {tf.__version__}; medians, A B A B")
    found = [of_head(task, options) for task in options.task]
    met = [report(head) for head in found]
    if options.json:
        options.json.write_text(json.dumps(found))
    print("Goals met." if all(met) else "Goals NOT met.")
    return 0 if all(met) else 1
