"""Compares ways through the encoder in a training step: Keras', and this package's (4 min).

`plain` is Keras' BatchNorm and whole convolutions; `fused` uses TensorFlow's BatchNorm; `remat`
also recomputes every block in the backward pass (`keras.remat`); `ours` is the package.
"""

from pathlib import Path

from benchmarks.sizes import LABELS, Sizes, as_json
from benchmarks.tables import Table, digits, ratios, spread
from benchmarks.turns import Contender, by_turns

WAYS = ("ours", "plain", "fused", "remat")
_SECONDS = {"paper": 150.0, "quick": 60.0}
_TIMES = {"paper": 1, "quick": 20}  # steps in one turn


def measure(sizes: Sizes, folder: Path) -> dict:
    """Seconds and memory of a step, by size and way."""
    return {
        name: _measure(as_json(config), _SECONDS[name] * sizes.patience, _TIMES[name], sizes.least)
        for name, config in sizes.configs.items()
    }


def _measure(preset: dict, seconds: float, times: int, least: int) -> dict:
    contenders = {way: Contender("benchmarks.ways:tasks", preset=preset, way=way) for way in WAYS}
    try:
        turns = {way: lambda c=c: c.ask("step", times) for way, c in contenders.items()}
        measures = by_turns(turns, seconds, least)
    finally:
        for contender in contenders.values():
            contender.__exit__()
    return {
        way: {
            "seconds": [m["seconds"] for m in measures[way]],
            "memory": contenders[way].memory,
        }
        for way in WAYS
    }


def tasks(preset: dict, way: str) -> dict:
    """The contender: `step` by one way."""
    import keras

    from benchmarks.pretraining import ours
    from tf_dicom_ce.models import conv_bn_relu
    from tf_dicom_ce.models.conv_bn_relu import FusedBatchNormalization

    if way != "ours":
        conv_bn_relu.in_halves = lambda layer, x: layer(x)
        conv_bn_relu.RECOMPUTED_FROM = float("inf")
    if way == "plain":
        FusedBatchNormalization.call = keras.layers.BatchNormalization.call
    if way == "remat":
        call = conv_bn_relu.Block.call

        def again(self, x, training=False):
            return keras.remat(lambda x: call(self, x, training))(x)

        conv_bn_relu.Block.call = again
    return ours.tasks(preset, LABELS)


def tables(results: dict) -> list[Table]:
    """One table per size."""
    return [_table(name, found) for name, found in results.items()]


def goals(results: dict) -> list:
    """None: it only shows which optimisations pay."""
    return []


def _table(name: str, found: dict) -> Table:
    ours = found["ours"]["seconds"]
    rows = [
        [
            way,
            spread(of["seconds"]),
            "" if way == "ours" else f"{spread(ratios(of['seconds'], ours))}× as long as ours",
            " / ".join(digits(of["memory"][kind] / 1e9) for kind in ("peak", "anonymous")),
        ]
        for way, of in found.items()
    ]
    return Table(f"Ways of a step, {name}", ("", "s a step", "", "memory, GB"), rows, "")
