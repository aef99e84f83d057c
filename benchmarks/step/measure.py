"""Measures the training step of this project and of PyTorch by turns, and its parts."""

import contextlib
import dataclasses
from pathlib import Path

from benchmarks.reading.generated import write_store
from benchmarks.sizes import LABELS, Sizes, as_json
from benchmarks.step.agreement import differences
from benchmarks.step.peak import LIBRARIES
from benchmarks.step.work import operations
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

        contenders = {OURS: enter("benchmarks.step.ours:tasks")}
        if name == "quick":
            contenders[WITHOUT_ONEDNN] = enter(
                "benchmarks.step.ours:tasks", {"TF_ENABLE_ONEDNN_OPTS": "0"}
            )
        for side, variant in (PYTORCH | PYTORCH_IN_BFLOAT16).items():
            contenders[side] = enter("benchmarks.step.pytorch:tasks", variant=variant)
        half = as_json(dataclasses.replace(config, precision="bfloat16"))
        contenders[IN_BFLOAT16] = enter("benchmarks.step.ours:tasks", preset=half)
        turns = {
            side: lambda contender=contender: contender.ask("step", _TIMES[name])
            for side, contender in contenders.items()
        }
        n = sizes.product
        for library in LIBRARIES:  # in the same rounds, for the machine's speed goes up and down
            contender = stack.enter_context(
                Contender("benchmarks.step.peak:tasks", library=library, n=n)
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
    """Seconds of the step's parts, and those for which a step waited for its batch."""
    preset = as_json(config)
    write_store(store, 64 * config.batch_size, config.image_size)
    with (
        Contender(
            "benchmarks.step.ours:tasks", preset=preset, labels=LABELS, store=str(store)
        ) as whole,
        Contender("benchmarks.step.parts:tasks", preset=preset) as parts,
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
