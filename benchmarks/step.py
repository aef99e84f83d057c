"""Compares the pretraining step with the same step in PyTorch, and the machine's limit (9 min).

Stages: `paper` and `quick` are two sizes, `teacher` is the preset `distilled`, `resnet50` is
`quick` with that backbone; `paper, parts` and `quick, parts` are parts of the step, each alone. On
a GPU (--device gpu) the parts are left out.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.pretraining.agreement import differences
from benchmarks.pretraining.peak import LIBRARIES
from benchmarks.pretraining.work import operations
from benchmarks.reading.generated import write_store
from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import LABELS, Setup, as_json
from benchmarks.tables import Goal, Table, at_least, at_most, digits, ratios, spread
from benchmarks.turns import Contender
from tf_dicom_ce.config import PretrainConfig

OURS, BEFORE = "tf_dicom_ce", "tf_dicom_ce of --against"
IN_BFLOAT16 = "tf_dicom_ce, bfloat16"
PYTORCH = {f"PyTorch, {variant}": variant for variant in ("eager", "channels-last", "compiled")}
PYTORCH_IN_BFLOAT16 = {"PyTorch, bfloat16": "bfloat16"}
_PARTS = ", parts"
#: Stage -> seconds of its rounds.
STAGES = {
    **{"paper": 200.0, "quick": 120.0, "teacher": 60.0, "resnet50": 60.0},
    **{f"paper{_PARTS}": 60.0, f"quick{_PARTS}": 30.0},
}
#: Stages that can run on a GPU.
ON_GPU = ("paper", "quick", "teacher", "resnet50")
_SIZES = ("paper", "quick")  # with bfloat16, matrix products and parts
_TIMES = 20  # steps in one turn of a small step: the first after a pause is slower
_PRODUCTS = 5  # matrix products in one turn


def measure(stage: Measuring, setup: Setup) -> None:
    """One size of the step, or its parts."""
    name = stage.name.removesuffix(_PARTS)
    config = setup.sizes.configs[name]
    if name != stage.name:
        _parts(stage, config, setup.folder / name)
        return
    if name == "quick" and "differences" not in stage.facts:
        found = differences(setup.sizes.configs["quick"], setup.folder / "step.npz")
        stage.tell(differences=found)
    counted = name in _SIZES
    stage.tell(
        setting=_setting(config),
        images=config.batch_size,
        product=setup.sizes.product,
        operations=sum(operations(config).values()) if counted else None,
    )
    _step(stage, config, setup)


def _step(stage: Measuring, config: PretrainConfig, setup: Setup) -> None:
    device = "cuda" if setup.device == "gpu" else "cpu"
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": "-1"}
    both = stage.name in _SIZES
    half = as_json(dataclasses.replace(config, precision="bfloat16"))
    ours = {"function": "benchmarks.pretraining.ours:tasks", "preset": as_json(config)}
    sides = {OURS: ours}
    if setup.against:
        sides[BEFORE] = ours | {"checkout": setup.against}
    for side, variant in (PYTORCH | (PYTORCH_IN_BFLOAT16 if both else {})).items():
        function = "benchmarks.pretraining.pytorch:tasks"
        sides[side] = ours | {"function": function, "variant": variant}
    if both:
        sides[IN_BFLOAT16] = ours | {"preset": half}
    times = 1 if stage.name == "paper" else _TIMES
    with contextlib.ExitStack() as stack:

        def turn(task: str, times: int, **of: object):
            # Another checkout need not know of devices.
            where = {} if of.get("checkout") else {"device": device}
            contender = stack.enter_context(Contender(environment=hidden, **where, **of))
            return lambda: contender.ask(task, times)

        turns = {side: turn("step", times, labels=LABELS, **of) for side, of in sides.items()}
        for library in LIBRARIES if both else ():  # in the same rounds: the machine's speed varies
            function = "benchmarks.pretraining.peak:tasks"
            like = {"function": function, "library": library, "n": setup.sizes.product}
            turns[library] = turn("product", _PRODUCTS, **like)
        stage.take(turns)


def _parts(stage: Measuring, config: PretrainConfig, store: Path) -> None:
    """Seconds of the step's parts, and seconds for which a step waited for its batch."""
    preset = as_json(config)
    write_store(store, 64 * config.batch_size, config.image_size)
    times = 1 if stage.name.startswith("paper") else _TIMES
    with (
        Contender(
            "benchmarks.pretraining.ours:tasks", preset=preset, labels=LABELS, store=str(store)
        ) as whole,
        Contender("benchmarks.pretraining.parts:tasks", preset=preset) as parts,
    ):
        stage.tell(images=config.batch_size, operations=operations(config))
        stage.take(
            {
                task: lambda contender=contender, task=task: contender.ask(task, times)
                for contender in (whole, parts)
                for task in contender.tasks
            }
        )


def _setting(config: PretrainConfig) -> str:
    height, width = config.image_size
    return f"{height}×{width}, batch {config.batch_size}, width {config.width:g}"


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Sides and parts, size by size, and limits."""
    found = [
        (_parts_table if name.endswith(_PARTS) else _sides)(name, stage)
        for name, stage in stages.items()
    ]
    sizes = {name: stages[name] for name in _SIZES if name in stages}
    if not sizes:
        return found
    header = ("", *(f"beside the steps of {name}, GFLOP/s" for name in sizes))
    products = [
        [library, *(spread(_billions(_products(stage, library))) for stage in sizes.values())]
        for library in LIBRARIES
    ]
    return [
        *found,
        Table("Matrix product, float32: the limit", header, products, _agreement(sizes)),
    ]


def _agreement(sizes: Mapping[str, Stage]) -> str:
    if "quick" not in sizes:
        return ""
    first, last = sizes["quick"].facts["differences"]
    return (
        "With equal initial weights, losses and gradient norms of both sides differ by at most "
        f"{first:.0e} at the first step, the losses by {last:.0e} at the third, relatively."
    )


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """Against the best variant of PyTorch, and against the limit, all in float32."""
    found = []
    for name, stage in stages.items():
        what = f"Training step, {name}"
        if name.endswith(_PARTS):
            waited = sum(stage.of("step from the store", "waited"))
            share = waited / sum(stage.of("step from the store"))
            found.append(at_most(f"{what}: share that waits", 2, 100 * share, " %"))
            continue
        best = min(PYTORCH, key=lambda side: median(stage.of(side)))
        faster = median(ratios(stage.of(best), stage.of(OURS)))
        found.append(at_least(f"{what}: speed against {best}", 1.2, faster))
        least = min(memory(stage, side, "peak") for side in PYTORCH)
        of_theirs = memory(stage, OURS, "peak") / least
        found.append(at_most(f"{what}: peak memory against the least", 1.0, of_theirs, "×"))
        if name in _SIZES:
            share = _rate(stage, OURS) / _limit(stage)
            found.append(at_least(f"{what}: share of the matrix product", 0.85, share, ""))
    return found


def speeds(stages: Mapping[str, Stage]) -> dict[str, dict[str, float]]:
    """Size -> side -> images a second, for the plot."""
    return {
        f"{name}\n{stage.facts['setting']}": {
            side: stage.facts["images"] / median(stage.of(side)) for side in _of_step(stage)
        }
        for name, stage in stages.items()
        if not name.endswith(_PARTS)
    }


def memory(stage: Stage, side: str, kind: str) -> float:
    """The most bytes of a side's process: `peak`, `anonymous` or `mapped`."""
    return max(stage.of(side, kind))


def _of_step(stage: Stage) -> list[str]:
    return [side for side in stage.sides if side not in LIBRARIES]


def _sides(name: str, stage: Stage) -> Table:
    header = ["", "s a step", "images/s", "memory, GB", f"{OURS} is"]
    limited = name in _SIZES
    on_gpu = "device" in stage.rounds[0][OURS][0]
    rows = []
    for side in _of_step(stage):
        seconds = stage.of(side)
        kinds = ("peak", "anonymous", *(["device"] if on_gpu else []))
        faster = ratios(seconds, stage.of(OURS))
        row = [
            side,
            spread(seconds),
            digits(stage.facts["images"] / median(seconds)),
            " / ".join(digits(memory(stage, side, kind) / 1e9) for kind in kinds),
            "" if side == OURS else f"{spread(faster)}× as fast",
        ]
        if limited:
            rate = _rate(stage, side)
            row[3:3] = [digits(rate / 1e9), f"{rate / _limit(stage):.2f}"]
        rows.append(row)
    if limited:
        header[3:3] = ["GFLOP/s", "of the limit"]
    steps = len(stage.of(OURS))
    device = ", the peak on the device" if on_gpu else ""
    notes = [
        f"{steps} steps of each, by turns.",
        f"Memory: the process's peak, its part without mapped files{device}.",
    ]
    if limited:
        work = stage.facts["operations"] * stage.facts["images"] / 1e9
        both = (digits(stage.of(side, "joint")[-1]) for side in (OURS, IN_BFLOAT16))
        notes.insert(0, f"{digits(work)} GFLOP a step;")
        notes.append(
            "bfloat16: weights and losses stay float32; from equal weights, the mean joint loss of "
            f"the last start's steps is {next(both)} in float32 and {next(both)} in bfloat16."
        )
    return Table(f"Training step, {name}: {stage.facts['setting']}", header, rows, " ".join(notes))


def _parts_table(name: str, stage: Stage) -> Table:
    whole, rows = median(stage.of("step")), []
    operations = stage.facts["operations"]
    for part in stage.sides:
        if part in ("step", "step from the store"):
            continue
        seconds = median(stage.of(part))
        rate = operations[part] * stage.facts["images"] / seconds / 1e9 if part in operations else 0
        row = [part, spread(stage.of(part)), f"{100 * seconds / whole:.1f} %"]
        rows.append([*row, digits(rate) if rate else ""])
    alone = sum(median(stage.of(row[0])) for row in rows if row[0] != "read")
    rows.append(["the rest", digits(whole - alone), f"{100 * (1 - alone / whole):.1f} %", ""])
    rows.append(["step, the batch at hand", spread(stage.of("step")), "100 %", ""])
    stored = stage.of("step from the store")
    waited = sum(stage.of("step from the store", "waited")) / sum(stored)
    note = (
        f"A step from the store takes {spread(stored)} s; it waits for the next batch for at most "
        f"{100 * waited:.2f} % of that time. `read` runs in parallel to the step; parts of the "
        "step may also run in parallel."
    )
    title = f"Parts of the step, {name.removesuffix(_PARTS)}, each alone"
    return Table(title, ("", "s", "of the step", "GFLOP/s"), rows, note)


def _products(stage: Stage, library: str) -> list[float]:
    """FLOP/s."""
    return [2 * stage.facts["product"] ** 3 / seconds for seconds in stage.of(library)]


def _limit(stage: Stage) -> float:
    """FLOP/s of the fastest matrix product."""
    return max(median(_products(stage, library)) for library in LIBRARIES)


def _rate(stage: Stage, side: str) -> float:
    """FLOP/s."""
    return stage.facts["operations"] * stage.facts["images"] / median(stage.of(side))


def _billions(rates: list[float]) -> list[float]:
    return [rate / 1e9 for rate in rates]
