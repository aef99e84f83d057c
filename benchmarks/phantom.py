"""Measures images per second of the phantom, in one process and in one per core (1 min)."""

import functools
import os
import shutil
from pathlib import Path

from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table, ratios, spread
from benchmarks.turns import by_turns, timed
from tf_dicom_ce.phantom.cohort import Order, render
from tf_dicom_ce.phantom.vendors import VENDOR_A
from tf_dicom_ce.workers import Outage, guarded_map

_IMAGES = 2  # of a patient
_SECONDS = 30.0


def measure(sizes: Sizes, folder: Path) -> dict:
    """Seconds by the number of processes."""
    orders = [
        Order("pretraining", number, _IMAGES, "", 0, VENDOR_A)
        for number in range(1, sizes.patients + 1)
    ]
    out = folder / "phantom"

    def make(workers: int) -> None:
        shutil.rmtree(out, ignore_errors=True)
        list(guarded_map(functools.partial(render, out=out), orders, _stop, workers, 600, 1))

    processes = sorted({1, os.cpu_count() or 1})
    turns = {str(n): timed(lambda n=n: make(n)) for n in processes}
    measures = by_turns(turns, _SECONDS * sizes.patience, sizes.least)
    seconds = {n: [m["seconds"] for m in found] for n, found in measures.items()}
    return {"images": _IMAGES * sizes.patients, "seconds": seconds}


def _stop(outage: Outage) -> None:
    raise RuntimeError(f"The phantom: {outage.value}.")


def tables(results: dict) -> list[Table]:
    """Images a second."""
    seconds = results["seconds"]
    rows = [
        [n, spread([results["images"] / s for s in values]), f"{spread(ratios(one, values))}×"]
        for one in [seconds["1"]]
        for n, values in seconds.items()
    ]
    title = f"The phantom: {results['images']} images, the processes' start included"
    return [Table(title, ("processes", "images/s", "speed against one"), rows)]


def goals(results: dict) -> list[Goal]:
    """None was set."""
    return []
