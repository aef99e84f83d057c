"""Measures how long commands take to start, up to the first training step (3 min).

Every turn is a fresh process, from its start to its end.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.sizes import LABELS, Sizes, as_json
from benchmarks.tables import Goal, Table, at_most, digits, spread
from benchmarks.turns import Contender, by_turns, timed

COMMANDS = ("phantom", "index", "train", "tune", "finetune", "study", "predict", "serve")
#: Modules that must not load TensorFlow.
WITHOUT_TENSORFLOW = ("dicom.reader", "intake.index", "phantom.cohort", "results.files", "cli")
HELP = "tf-dicom-ce --help"
_SECONDS = 90.0
_CHECK = "import sys, tf_dicom_ce.{}; sys.exit('tensorflow' in sys.modules)"


def measure(sizes: Sizes, folder: Path) -> dict:
    """Seconds by command, and modules that load TensorFlow without need."""
    program = str(Path(sys.executable).with_name("tf-dicom-ce"))
    python, config = sys.executable, sizes.configs["quick"]
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
    measures = by_turns(turns, _SECONDS * sizes.patience, sizes.least)
    return {
        "seconds": {name: [m["seconds"] for m in found] for name, found in measures.items()},
        "loads tensorflow": [
            module
            for module in WITHOUT_TENSORFLOW
            if subprocess.run([python, "-c", _CHECK.format(module)]).returncode
        ],
    }


def _first_step(function: str, settings: dict) -> None:
    with Contender(function, **settings) as contender:
        contender.ask("step")


def tables(results: dict) -> list[Table]:
    """Seconds."""
    rows = [[name, spread(seconds)] for name, seconds in results["seconds"].items()]
    loading = ", ".join(results["loads tensorflow"]) or "none"
    note = f"These of {', '.join(WITHOUT_TENSORFLOW)} load TensorFlow: {loading}."
    return [Table("Start of a process, to its end", ("", "s"), rows, note)]


def goals(results: dict) -> list[Goal]:
    """`--help` at once, and TensorFlow only where it is needed."""
    loading = results["loads tensorflow"]
    return [
        at_most(f"`{HELP}`", 0.3, median(results["seconds"][HELP]), " s"),
        Goal("Parts that load TensorFlow without need", "0", digits(len(loading)), not loading),
    ]
