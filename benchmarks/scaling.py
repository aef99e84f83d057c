"""Measures the cost of an image in a training step as batch, size and width grow (2 min)."""

import contextlib
from pathlib import Path
from statistics import median

from benchmarks.pretraining.work import operations
from benchmarks.sizes import LABELS, Sizes, as_json
from benchmarks.tables import Goal, Table, digits, spread
from benchmarks.turns import Contender, by_turns

_SECONDS = 25.0  # of each setting that grows
_TIMES = 2  # steps in one turn


def measure(sizes: Sizes, folder: Path) -> dict:
    """Setting -> value -> seconds, images and operations of a step."""
    found = {}
    for setting, configs in sizes.shapes.items():
        with contextlib.ExitStack() as stack:
            turns = {}
            for value, config in configs.items():
                contender = stack.enter_context(
                    Contender(
                        "benchmarks.pretraining.ours:tasks",
                        preset=as_json(config),
                        labels=LABELS,
                    )
                )
                turns[value] = lambda contender=contender: contender.ask("step", _TIMES)
            measures = by_turns(turns, _SECONDS * sizes.patience, sizes.least)
        found[setting] = {
            value: {
                "seconds": [m["seconds"] for m in measures[value]],
                "images": config.batch_size,
                "operations": sum(operations(config).values()),
            }
            for value, config in configs.items()
        }
    return found


def tables(results: dict) -> list[Table]:
    """Cost of an image, in time and against its operations."""
    return [
        Table(
            f"Cost of an image as `{setting}` grows, otherwise the quick size",
            (setting, "ms an image", "GFLOP an image", "GFLOP/s"),
            [
                [
                    value,
                    spread([1e3 * s / m["images"] for s in m["seconds"]]),
                    digits(m["operations"] / 1e9),
                    digits(m["operations"] * m["images"] / median(m["seconds"]) / 1e9),
                ]
                for value, m in values.items()
            ],
        )
        for setting, values in results.items()
    ]


def goals(results: dict) -> list[Goal]:
    """None was set."""
    return []


def rates(results: dict) -> dict[str, dict[str, float]]:
    """Setting -> value -> FLOP/s, for the plot."""
    return {
        setting: {
            value: m["operations"] * m["images"] / median(m["seconds"])
            for value, m in values.items()
        }
        for setting, values in results.items()
    }
