"""Measures the cost of an image in a training step as batch, size and width grow (2 min)."""

import contextlib
from collections.abc import Mapping
from statistics import median

from benchmarks.pretraining.work import operations
from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import LABELS, Setup, as_json
from benchmarks.tables import Goal, Table, digits, spread
from benchmarks.turns import Contender

#: Setting that grows -> seconds.
STAGES = {"batch_size": 25.0, "image_size": 25.0, "width": 25.0}
_TIMES = 2  # steps in one turn


def measure(stage: Measuring, setup: Setup) -> None:
    """Seconds of a step by the value of one setting."""
    configs = setup.sizes.shapes[stage.name]
    stage.tell(
        images={value: config.batch_size for value, config in configs.items()},
        operations={value: sum(operations(config).values()) for value, config in configs.items()},
    )
    with contextlib.ExitStack() as stack:
        turns = {}
        for value, config in configs.items():
            contender = stack.enter_context(
                Contender(
                    "benchmarks.pretraining.ours:tasks", preset=as_json(config), labels=LABELS
                )
            )
            turns[value] = lambda contender=contender: contender.ask("step", _TIMES)
        stage.take(turns)


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Cost of an image, in time and against its operations."""
    return [
        Table(
            f"Cost of an image as `{setting}` grows, otherwise the quick size",
            (setting, "ms an image", "GFLOP an image", "GFLOP/s"),
            [
                [
                    value,
                    spread([1e3 * s / stage.facts["images"][value] for s in stage.of(value)]),
                    digits(stage.facts["operations"][value] / 1e9),
                    digits(_rate(stage, value) / 1e9),
                ]
                for value in stage.sides
            ],
        )
        for setting, stage in stages.items()
    ]


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """None was set."""
    return []


def rates(stages: Mapping[str, Stage]) -> dict[str, dict[str, float]]:
    """Setting -> value -> FLOP/s, for the plot."""
    return {
        setting: {value: _rate(stage, value) for value in stage.sides}
        for setting, stage in stages.items()
    }


def _rate(stage: Stage, value: str) -> float:
    work = stage.facts["operations"][value] * stage.facts["images"][value]
    return work / median(stage.of(value))
