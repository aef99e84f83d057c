"""Measures images per second of the phantom, in one process and in one per core (1 min)."""

import functools
import os
import shutil
from collections.abc import Mapping

from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, ratios, spread
from benchmarks.turns import timed
from tf_dicom_ce.phantom.cohort import Order, render
from tf_dicom_ce.phantom.vendors import VENDOR_A
from tf_dicom_ce.workers import Outage, guarded_map

_IMAGES = 2  # of a patient
STAGES = {"images": 30.0}


def measure(stage: Measuring, setup: Setup) -> None:
    """Seconds by the number of processes."""
    orders = [
        Order("pretraining", number, _IMAGES, "", 0, VENDOR_A)
        for number in range(1, setup.sizes.patients + 1)
    ]
    out = setup.folder / "phantom"

    def make(workers: int) -> None:
        shutil.rmtree(out, ignore_errors=True)
        list(guarded_map(functools.partial(render, out=out), orders, _stop, workers, 600, 1))

    processes = sorted({1, os.cpu_count() or 1})
    stage.tell(images=_IMAGES * setup.sizes.patients)
    stage.take({str(n): timed(lambda n=n: make(n)) for n in processes})


def _stop(outage: Outage) -> None:
    raise RuntimeError(f"The phantom: {outage.value}.")


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Images a second."""
    return [_table(stage) for stage in stages.values()]


def _table(stage: Stage) -> Table:
    images = stage.facts["images"]
    rows = [
        [n, spread([images / s for s in stage.of(n)]), f"{spread(ratios(one, stage.of(n)))}×"]
        for one in [stage.of("1")]
        for n in stage.sides
    ]
    title = f"The phantom: {images} images, the processes' start included"
    return Table(title, ("processes", "images/s", "speed against one"), rows)


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """None was set."""
    return []
