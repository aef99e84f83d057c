"""Compares ways through the encoder in a training step: Keras', and this package's (4 min).

`ours` is the package. Each of the others leaves something out, or takes another way: `whole` does
not compute halves of a batch in parallel; `kept` recomputes nothing for the gradient; `threads` is
TensorFlow's number of threads, without halves; `plain` is Keras' BatchNorm with everything kept,
and whole; `remat` recomputes every block by `keras.remat`.
"""

import contextlib
import os
from collections.abc import Mapping
from statistics import median

from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import LABELS, Setup, as_json
from benchmarks.step import memory
from benchmarks.tables import Table, digits, ratios, spread
from benchmarks.turns import Contender

WAYS = ("ours", "whole", "kept", "threads", "plain", "remat")
STAGES = {"quick": 60.0, "paper": 150.0}
_TIMES = {"paper": 1, "quick": 20}  # steps in one turn


def measure(stage: Measuring, setup: Setup) -> None:
    """Seconds and memory of a step by each way."""
    preset, times = as_json(setup.sizes.configs[stage.name]), _TIMES[stage.name]
    with contextlib.ExitStack() as stack:
        turns = {}
        for way in WAYS:
            threads = {"TF_NUM_INTRAOP_THREADS": f"{os.cpu_count()}"} if way == "threads" else {}
            contender = Contender("benchmarks.ways:tasks", threads, preset=preset, way=way)
            stack.enter_context(contender)
            turns[way] = lambda contender=contender: contender.ask("step", times)
        stage.take(turns)


def tasks(preset: dict, way: str) -> dict:
    """The contender: `step` by one way."""
    import keras

    from benchmarks.pretraining import ours
    from tf_dicom_ce.models import conv_bn_relu
    from tf_dicom_ce.models.conv_bn_relu import FusedBatchNormalization

    if way in ("whole", "plain", "remat"):
        conv_bn_relu.in_halves = lambda layer, x: layer(x)
    if way in ("kept", "plain", "remat"):
        conv_bn_relu.RECOMPUTED_FROM = float("inf")
    if way == "plain":
        FusedBatchNormalization.call = keras.layers.BatchNormalization.call
    if way == "remat":
        call = conv_bn_relu.Block.call

        def again(self, x, training=False):
            return keras.remat(lambda x: call(self, x, training))(x)

        conv_bn_relu.Block.call = again
    return ours.tasks(preset, LABELS)


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """One table per size."""
    return [_table(name, stage) for name, stage in stages.items()]


def goals(stages: Mapping[str, Stage]) -> list:
    """None: it only shows which optimisations pay."""
    return []


def _table(name: str, stage: Stage) -> Table:
    rows = [
        [
            way,
            spread(stage.of(way)),
            "" if way == "ours" else f"{spread(ratios(stage.of(way), stage.of('ours')))}×",
            " / ".join(digits(memory(stage, way, kind) / 1e9) for kind in ("peak", "anonymous")),
        ]
        for way in stage.sides
    ]
    fastest = min(stage.sides, key=lambda way: median(stage.of(way)))
    header = ("", "s a step", "time against ours", "memory, GB")
    return Table(f"Ways of a step, {name}", header, rows, f"The fastest here: {fastest}.")
