"""Measures what people wait for: whole commands, and what their time goes to (8 min).

Every turn is a fresh process with empty caches, from its start to its end, on the phantom that
`--preset quick` renders. `run` is one epoch of the default run, from DICOM to the exported encoder;
`cell` is the job of a cell of a study, two epochs of a head.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.index import make_files
from benchmarks.kill_and_resume import make_data
from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, at_most, ratios, spread
from benchmarks.turns import Measures, code_of, timed
from tf_dicom_ce.phantom.cohort import default_cohort

NOW, BEFORE = "now", "before"
STAGES = {"help": 5.0, "index": 60.0, "run": 120.0, "probe": 60.0, "predict": 60.0, "cell": 60.0}
_PARTS = ("importing", "workers", "tracing")
_WATCHED = Path(__file__).with_name("watched.py")
_HEAD = """
import sys
from pathlib import Path
from benchmarks.served import export_untrained
from tf_dicom_ce.config import FINETUNE_PRESETS
export_untrained(Path(sys.argv[1]), FINETUNE_PRESETS["quick", "segmentation"])
"""


def measure(stage: Measuring, setup: Setup) -> None:
    """One command, of this checkout and of --against by turns."""
    words = _command(stage.name, setup)
    turns = {NOW: lambda: _turn(words, setup.folder, None)}
    if setup.against:
        turns[BEFORE] = lambda: _turn(words, setup.folder, setup.against)
    stage.tell(command=" ".join(("tf-dicom-ce", words[0])))
    stage.take(turns)


def _command(name: str, setup: Setup) -> list[str]:
    """The words of a command; its data are made by the first that needs them."""
    folder, trial = setup.folder, setup.sizes.patience == 0
    if name == "help":
        return ["--help"]
    if name == "index":
        (folder / "files").mkdir()
        make_files(folder / "files", setup.sizes.waiting_files)
        return ["index", str(folder / "files"), "--run", str(folder / "out")]
    data = folder / "data" if trial else default_cohort("quick")
    quick, out = ["--preset", "quick"], ["--run", str(folder / "out")]
    if not data.exists():
        make_data(data)
    labelled = [
        "--data",
        str(data),
        "--labels",
        str(data / "segmentation.csv"),
        "--preset",
        "quick",
    ]
    images = ["--data", str(data / "pretraining")]
    if trial:
        images = ["--data", str(data), "--labels", str(data / "tags.csv")]
    export = ["--export", str(folder / "out" / "export")]
    if name == "run":
        return ["train", *images, *quick, *out, *export, "--epochs", "1"]
    if name == "probe":
        return ["probe", "none", "--task", "segmentation", *labelled, *out]
    if name == "cell":
        kind = ["finetune", "--encoder", "none", "--task", "segmentation", "--epochs", "2"]
        return [*kind, *labelled, *out, "--no-export"]
    models, source = folder / "models", data if trial else data / "segmentation"
    subprocess.run([sys.executable, "-c", _HEAD, str(models)], check=True)
    model = ["--model", str(models / "segmentation")]
    return ["predict", str(source), *model, "--out", str(folder / "out")]


def _turn(words: list[str], folder: Path, checkout: Path | None) -> list[Measures]:
    for name in ("out", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    code = code_of(checkout or Path.cwd())
    environment = {**os.environ, **code, "XDG_CACHE_HOME": str(folder / "cache")}
    parts, log = folder / "parts.json", folder / "log"
    command = [sys.executable, "-P", str(_WATCHED), str(parts), *words]
    if words == ["--help"]:
        command = [str(Path(sys.executable).with_name("tf-dicom-ce")), *words]
    with log.open("w") as file:
        (measured,) = timed(
            lambda: subprocess.run(command, env=environment, stdout=file, stderr=file)
        )()
    if words == ["--help"]:
        return [measured | dict.fromkeys(_PARTS, 0.0)]
    if not (folder / "out").exists():
        raise RuntimeError(f"{' '.join(words)}: {log.read_text()[-2000:]}")
    return [measured | json.loads(parts.read_text())]


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Seconds of each command, and of its parts."""
    header = ("", "s", *(f"{part}, s" for part in _PARTS), "the rest, s", "before, s", "now is")
    rows = []
    for name, stage in stages.items():
        seconds = stage.of(NOW)
        parts = [stage.of(NOW, part) for part in _PARTS]
        rest = [whole - sum(of) for whole, *of in zip(seconds, *parts, strict=True)]
        then = ["", ""]
        if BEFORE in stage.sides:
            before = stage.of(BEFORE)
            then = [spread(before), f"{spread(ratios(before, seconds))}× as fast"]
        rows.append([name, *map(spread, (seconds, *parts, rest)), *then])
    note = (
        "`workers`: waiting for processes that read headers and pixels, or write results. "
        "`the rest`: computing."
    )
    return [Table("What people wait for", header, rows, note)]


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """The three that were the slowest at least a third shorter, where there is a before."""
    found = []
    for name, stage in stages.items():
        if BEFORE in stage.sides:
            share = median(ratios(stage.of(NOW), stage.of(BEFORE)))
            found.append(at_most(f"Wait, {name}: time against before", 0.67, share, "×"))
    return found
