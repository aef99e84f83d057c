"""Compares the pretraining step with the same step in PyTorch, and the machine's limit (9 min)."""

import contextlib
import dataclasses
from pathlib import Path
from statistics import median

from benchmarks.pretraining.agreement import differences
from benchmarks.pretraining.peak import LIBRARIES
from benchmarks.pretraining.work import operations
from benchmarks.reading.generated import write_store
from benchmarks.sizes import LABELS, Sizes, as_json
from benchmarks.tables import Goal, Table, at_least, at_most, digits, ratios, spread
from benchmarks.turns import Contender, by_turns
from tf_dicom_ce.config import PretrainConfig

OURS = "tf_dicom_ce"
WITHOUT_ONEDNN = "tf_dicom_ce without oneDNN"
IN_BFLOAT16 = "tf_dicom_ce, bfloat16"
PYTORCH = {f"PyTorch, {variant}": variant for variant in ("eager", "channels-last", "compiled")}
PYTORCH_IN_BFLOAT16 = {"PyTorch, bfloat16": "bfloat16"}
_SECONDS = {"paper": 200.0, "quick": 120.0}  # for the rounds of one size
_SECONDS_OF_PARTS = {"paper": 60.0, "quick": 30.0}
_TIMES = {"paper": 1, "quick": 20}  # steps in one turn: the first after a pause is slower
_PRODUCTS = 5  # matrix products in one turn


def measure(sizes: Sizes, folder: Path) -> dict:
    """The agreement of both sides, and each size of the step."""
    return {
        "differences": differences(sizes.configs["quick"], folder / "step.npz"),
        "sizes": {
            name: _step(name, config, sizes) | _parts(name, config, sizes, folder / name)
            for name, config in sizes.configs.items()
        },
    }


def _step(name: str, config: PretrainConfig, sizes: Sizes) -> dict:
    float32 = as_json(config)
    with contextlib.ExitStack() as stack:

        def enter(
            function: str, environment: dict | None = None, preset: dict = float32, **more: str
        ) -> Contender:
            return stack.enter_context(
                Contender(function, environment, preset=preset, labels=LABELS, **more)
            )

        contenders = {OURS: enter("benchmarks.pretraining.ours:tasks")}
        if name == "quick":
            contenders[WITHOUT_ONEDNN] = enter(
                "benchmarks.pretraining.ours:tasks", {"TF_ENABLE_ONEDNN_OPTS": "0"}
            )
        for side, variant in (PYTORCH | PYTORCH_IN_BFLOAT16).items():
            contenders[side] = enter("benchmarks.pretraining.pytorch:tasks", variant=variant)
        half = as_json(dataclasses.replace(config, precision="bfloat16"))
        contenders[IN_BFLOAT16] = enter("benchmarks.pretraining.ours:tasks", preset=half)
        turns = {
            side: lambda contender=contender: contender.ask("step", _TIMES[name])
            for side, contender in contenders.items()
        }
        n = sizes.product
        for library in LIBRARIES:  # in the same rounds, because the machine's speed varies
            contender = stack.enter_context(
                Contender("benchmarks.pretraining.peak:tasks", library=library, n=n)
            )
            turns[library] = lambda contender=contender: contender.ask("product", _PRODUCTS)
        measures = by_turns(turns, _SECONDS[name] * sizes.patience, sizes.least)
    seconds = {side: [m["seconds"] for m in found] for side, found in measures.items()}
    return {
        "products": {side: [2 * n**3 / s for s in seconds.pop(side)] for side in LIBRARIES},
        "setting": _setting(config),
        "images": config.batch_size,
        "operations": operations(config),
        "seconds": seconds,
        "memory": {side: contender.memory for side, contender in contenders.items()},
    }


def _parts(name: str, config: PretrainConfig, sizes: Sizes, store: Path) -> dict:
    """Seconds of the step's parts, and seconds for which a step waited for its batch."""
    preset = as_json(config)
    write_store(store, 64 * config.batch_size, config.image_size)
    with (
        Contender(
            "benchmarks.pretraining.ours:tasks", preset=preset, labels=LABELS, store=str(store)
        ) as whole,
        Contender("benchmarks.pretraining.parts:tasks", preset=preset) as parts,
    ):
        measures = by_turns(
            {
                task: lambda contender=contender, task=task: contender.ask(task, _TIMES[name])
                for contender in (whole, parts)
                for task in contender.tasks
            },
            _SECONDS_OF_PARTS[name] * sizes.patience,
            sizes.least,
        )
    seconds = {task: [m["seconds"] for m in found] for task, found in measures.items()}
    return {"parts": seconds, "waited": [m["waited"] for m in measures["step from the store"]]}


def _setting(config: PretrainConfig) -> str:
    height, width = config.image_size
    return f"{height}×{width}, batch {config.batch_size}, width {config.width:g}"


def tables(results: dict) -> list[Table]:
    """Sides, parts and limits."""
    found = []
    for name, size in results["sizes"].items():
        found += [_sides(name, size), _parts_table(name, size)]
    header = ("", *(f"beside the steps of {name}, GFLOP/s" for name in results["sizes"]))
    products = [
        [library, *(spread(_billions(s["products"][library])) for s in results["sizes"].values())]
        for library in LIBRARIES
    ]
    first, last = results["differences"]
    note = (
        "With equal initial weights, losses and gradient norms of both sides differ by at most "
        f"{first:.0e} at the first step, the losses by {last:.0e} at the third, relatively."
    )
    return [*found, Table("Matrix product, float32: the limit", header, products, note)]


def goals(results: dict) -> list[Goal]:
    """Against the best variant of PyTorch, and against the limit, all in float32."""
    found = []
    for name, size in results["sizes"].items():
        best = _best_of_pytorch(size)
        faster = median(ratios(size["seconds"][best], size["seconds"][OURS]))
        found.append(at_least(f"Training step, {name}: speed against {best}", 1.15, faster))
        waited = sum(size["waited"]) / sum(size["parts"]["step from the store"])
        found.append(at_most(f"Training step, {name}: share that waits", 2, 100 * waited, " %"))
    paper = results["sizes"]["paper"]
    share = _rate(paper, OURS) / _limit(paper)
    what = "Training step, paper: share of the matrix product's speed"
    found.append(at_least(what, 0.8, share, ""))
    memory = paper["memory"]
    least = min(memory[side]["peak"] for side in PYTORCH)
    of_theirs = memory[OURS]["peak"] / least
    found.append(at_most("Training step, paper: peak memory against the best", 1.0, of_theirs, "×"))
    return found


def speeds(results: dict) -> dict[str, dict[str, float]]:
    """Size -> side -> images a second, for the plot."""
    return {
        f"{name}\n{size['setting']}": {
            side: size["images"] / median(seconds) for side, seconds in size["seconds"].items()
        }
        for name, size in results["sizes"].items()
    }


def _sides(name: str, size: dict) -> Table:
    header = ("", "s a step", "images/s", "GFLOP/s", "of the limit", "memory, GB", f"{OURS} is")
    rows = [
        [
            side,
            spread(seconds),
            digits(size["images"] / median(seconds)),
            digits(_rate(size, side) / 1e9),
            f"{_rate(size, side) / _limit(size):.2f}",
            " / ".join(digits(size["memory"][side][kind] / 1e9) for kind in ("peak", "anonymous")),
            "" if side == OURS else f"{spread(ratios(seconds, size['seconds'][OURS]))}× as fast",
        ]
        for side, seconds in size["seconds"].items()
    ]
    work = sum(size["operations"].values()) * size["images"] / 1e9
    rounds = len(size["seconds"][OURS])
    note = (
        f"{digits(work)} GFLOP per step; {rounds} steps of each, in turns. Memory: the process's "
        "peak, and the part without mapped files. bfloat16: weights and losses stay float32."
    )
    return Table(f"Training step, {name}: {size['setting']}", header, rows, note)


def _parts_table(name: str, size: dict) -> Table:
    parts, whole = size["parts"], median(size["parts"]["step"])
    rows = []
    for part, seconds in parts.items():
        if part in ("step", "step from the store"):
            continue
        work = size["operations"].get(part, 0) * size["images"]
        rows.append(
            [
                part,
                spread(seconds),
                f"{100 * median(seconds) / whole:.1f} %",
                digits(work / median(seconds) / 1e9) if work else "",
            ]
        )
    alone = sum(median(parts[row[0]]) for row in rows if row[0] != "read")
    rows.append(["the rest", digits(whole - alone), f"{100 * (1 - alone / whole):.1f} %", ""])
    rows.append(["step, the batch at hand", spread(parts["step"]), "100 %", ""])
    waited = sum(size["waited"]) / sum(parts["step from the store"])
    note = (
        f"A step from the store takes {spread(parts['step from the store'])} s; it waits for the "
        f"next batch for at most {100 * waited:.2f} % of that time. `read` runs in parallel to the "
        "step; parts of the step may also run in parallel."
    )
    title = f"Parts of the step, {name}, each alone"
    return Table(title, ("", "s", "of the step", "GFLOP/s"), rows, note)


def _limit(size: dict) -> float:
    """FLOP/s of the fastest matrix product."""
    return max(median(rates) for rates in size["products"].values())


def _rate(size: dict, side: str) -> float:
    """FLOP/s."""
    return sum(size["operations"].values()) * size["images"] / median(size["seconds"][side])


def _best_of_pytorch(size: dict) -> str:
    return min(PYTORCH, key=lambda side: median(size["seconds"][side]))


def _billions(rates: list[float]) -> list[float]:
    return [rate / 1e9 for rate in rates]
