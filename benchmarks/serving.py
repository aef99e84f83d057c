"""Measures what HTTP adds to a prediction: `serve` against a SavedModel in process (3 min).

An image is a PNG of the paper's size; the answer of a segmentation is the mask. Two figures are
measured by turns: the time of one image for one client, and images per second, in batches of 8 in
process and by 8 clients with one image each over HTTP. A client sends a prepared request and reads
the whole answer, without parsing it. `--against` serves the same models by another checkout, too.
"""

import concurrent.futures
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.rounds import Measuring, Stage
from benchmarks.served import CLASSES, Client, export_untrained, picture, served
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, at_least, at_most, ratios, spread
from benchmarks.turns import Contender, timed
from tf_dicom_ce.config import FinetuneConfig

STAGES = dict.fromkeys(CLASSES, 60.0)
SIDES = HERE, HTTP, BEFORE = "here", "http", "http of --against"
CLIENTS = 8  # and images in a batch in process
_ONCE, _REQUESTS = 8, 4  # calls of one client in a turn; of each of many
_SIGNATURES = {"classification": "serving_default", "segmentation": "serving_mask"}


def measure(stage: Measuring, setup: Setup) -> None:
    """One head: an image at a time and many, in process (`here`) and over HTTP."""
    config, root = setup.sizes.configs["paper"], setup.folder / stage.name
    signature, (height, width) = _SIGNATURES[stage.name], config.image_size
    like = {"task": stage.name, "image_size": config.image_size, "width": config.width}
    images = [picture(height, width, seed) for seed in range(CLIENTS)]
    servers = {HTTP: None} | ({BEFORE: setup.against} if setup.against else {})
    with (
        Contender("benchmarks.serving:tasks", root=str(root), **like) as here,
        concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool,
        contextlib.ExitStack() as running,
    ):
        (known,) = here.ask("answers")
        turns = {
            f"one, {HERE}": lambda: here.ask("one", _ONCE),
            f"many, {HERE}": lambda: here.ask("many"),
        }
        for side, checkout in servers.items():
            port, _ = running.enter_context(served(root, setup.folder / f"{side}.log", checkout))
            clients = [Client(port, stage.name, image, signature) for image in images]
            for client, true in zip(clients, known["answers"], strict=True):
                _compare(json.loads(client.answer)["predictions"][0], true)
            turns |= _over_http(side, clients, pool)
        stage.tell(setting=f"{stage.name}, {height}×{width}, width {config.width:g}")
        stage.take(dict(sorted(turns.items(), reverse=True)))


def _over_http(side: str, clients: list[Client], pool: concurrent.futures.Executor) -> dict:
    def one():
        return [measured for _ in range(_ONCE) for measured in timed(clients[0].ask)()]

    def together():
        list(pool.map(lambda client: [client.ask() for _ in range(_REQUESTS)], clients))

    return {f"one, {side}": one, f"many, {side}": timed(together)}


def _compare(found: dict | list, true: dict) -> None:
    """Both sides have to answer the same, or there is nothing to compare."""
    found = {"mask": found} if "mask" in true else found
    for name, values in true.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)


def tasks(root: str, task: str, image_size: list[int], width: float) -> dict:
    """The contender in process, which exports the head to the repository `root` first."""
    import tensorflow as tf

    config = FinetuneConfig(task=task, image_size=tuple(image_size), width=width)
    version = export_untrained(Path(root), config)
    images = [picture(*image_size, seed) for seed in range(CLIENTS)]
    predict = tf.saved_model.load(str(version)).signatures[_SIGNATURES[task]]

    def in_process(chosen):
        answers = predict(image_bytes=tf.constant(chosen))
        return {name: value.numpy() for name, value in answers.items()}

    def answers():
        found = in_process(images)
        return {"answers": [{k: v[n].tolist() for k, v in found.items()} for n in range(CLIENTS)]}

    def many():
        for _ in range(_REQUESTS):
            in_process(images)

    return {"answers": answers, "one": lambda: _ignored(in_process(images[:1])), "many": many}


def _ignored(_: object) -> None:
    """Only the time is asked for."""


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """In process and over HTTP; by the server before, too, if it was measured."""
    images = CLIENTS * _REQUESTS
    rows, before = [], []
    for stage in stages.values():
        sides = [side for side in SIDES if f"one, {side}" in stage.sides]
        one = {side: [1e3 * s for s in stage.of(f"one, {side}")] for side in sides}
        many = {side: stage.of(f"many, {side}") for side in sides}
        rates = {side: spread([images / s for s in seconds]) for side, seconds in many.items()}
        of_both = (*map(spread, (one[HERE], one[HTTP])), rates[HERE], rates[HTTP])
        rows.append([stage.facts["setting"], *of_both, spread(ratios(many[HERE], many[HTTP]))])
        if BEFORE in sides:
            times = (spread(one[HTTP]), spread(one[BEFORE]), rates[HTTP], rates[BEFORE])
            faster = (spread(ratios(side[BEFORE], side[HTTP])) for side in (one, many))
            before.append([stage.facts["setting"], *times, *(f"{ratio}×" for ratio in faster)])
    header = (
        *("", "1 image in process, ms", "1 client over HTTP, ms"),
        *("batches of 8 in process, images/s", "8 clients over HTTP, images/s", "ratio"),
    )
    found = [Table("Serving: what HTTP adds", header, rows)]
    if before:
        now = ("", "1 client, ms", "before", "8 clients, images/s", "before")
        faster = ("1 client: now is … as fast", "8 clients: now is … as fast")
        found.append(Table("Serving: now and before", (*now, *faster), before))
    return found


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """What HTTP may add, and what eight clients may lose."""
    found = []
    for name, stage in stages.items():
        added = 1e3 * (median(stage.of(f"one, {HTTP}")) - median(stage.of(f"one, {HERE}")))
        found.append(at_most(f"Serving, {name}: HTTP adds", 5, added, " ms"))
        ratio = median(ratios(stage.of(f"many, {HERE}"), stage.of(f"many, {HTTP}")))
        found.append(at_least(f"Serving, {name}: 8 clients' images", 0.95, ratio, ""))
    return found
