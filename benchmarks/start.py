"""Measures how long commands take to start, up to the first training step (3 min).

Every turn is a fresh process, from its start to its end.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import LABELS, Setup, as_json
from benchmarks.tables import Goal, Table, at_most, none_of, spread
from benchmarks.turns import Contender, timed

COMMANDS = ("phantom", "index", "train", "tune", "finetune", "study", "predict", "serve")
#: Modules that must not load TensorFlow.
WITHOUT_TENSORFLOW = ("dicom.reader", "intake.index", "phantom.cohort", "results.files", "cli")
HELP = "tf-dicom-ce --help"
STAGES = {"starts": 90.0}
_CHECK = "import sys, tf_dicom_ce.{}; sys.exit('tensorflow' in sys.modules)"


def measure(stage: Measuring, setup: Setup) -> None:
    """Seconds by command, and modules that load TensorFlow without need."""
    program = str(Path(sys.executable).with_name("tf-dicom-ce"))
    python, config = sys.executable, setup.sizes.configs["quick"]
    starts = {
        "python, nothing else": [python, "-c", ""],
        "import tf_dicom_ce": [python, "-c", "import tf_dicom_ce"],
        HELP: [program, "--help"],
        **{f"tf-dicom-ce {name} --help": [program, name, "--help"] for name in COMMANDS},
        "import pydicom": [python, "-c", "import pydicom"],
        "import tensorflow": [python, "-c", "import tensorflow"],
        "import torch": [python, "-c", "import torch"],
        "import monai": [python, "-c", "import monai"],
    }
    turns = {
        name: timed(lambda words=words: subprocess.run(words, check=True, capture_output=True))
        for name, words in starts.items()
    }
    settings = {"preset": as_json(config), "labels": LABELS}
    for side, function, more in (
        ("tf_dicom_ce", "benchmarks.pretraining.ours:tasks", {}),
        (
            "PyTorch, channels-last",
            "benchmarks.pretraining.pytorch:tasks",
            {"variant": "channels-last"},
        ),
    ):
        turns[f"first training step, {side}"] = timed(
            lambda function=function, more=more: _first_step(function, {**settings, **more})
        )
    loading = [
        module
        for module in WITHOUT_TENSORFLOW
        if subprocess.run([python, "-c", _CHECK.format(module)]).returncode
    ]
    stage.tell(loading=loading)
    stage.take(turns)


def _first_step(function: str, settings: dict) -> None:
    with Contender(function, **settings) as contender:
        contender.ask("step")


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Seconds."""
    return [_table(stage) for stage in stages.values()]


def _table(stage: Stage) -> Table:
    rows = [[name, spread(stage.of(name))] for name in stage.sides]
    loading = ", ".join(stage.facts["loading"]) or "none"
    note = f"These of {', '.join(WITHOUT_TENSORFLOW)} load TensorFlow: {loading}."
    return Table("Start of a process, to its end", ("", "s"), rows, note)


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """`--help` at once, and TensorFlow only where it is needed."""
    found = []
    for stage in stages.values():
        found.append(at_most(f"`{HELP}`", 0.3, median(stage.of(HELP)), " s"))
        found.append(none_of("Parts that load TensorFlow without need", stage.facts["loading"]))
    return found
