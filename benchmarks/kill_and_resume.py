"""Kills small runs at random moments, resumes them, compares with runs left alone (20 min).

Trains a pretraining, a classifier and a segmentation head with `--deterministic`, each once without
interruption, and again and again with SIGKILLs at random moments and `--resume`. A process is
killed only after it has taken a step and saved it: an earlier kill proves nothing. All variables
(weights, statistics, seeds, optimizers, running means), the best weights and the history have to be
equal, bit for bit; it fails if they are not.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, at_least, none_of
from benchmarks.turns import Round

SIZE = ["--image-size", "32", "32", "--width", "0.03125"]
ALWAYS = ["--deterministic", "--checkpoint-steps", "3", "--resume"]
STAGES = dict.fromkeys(("pretraining", "classification", "segmentation"), 300.0)
_EPOCHS = 10  # for each kill of a round


def make_data(folder: Path) -> None:
    """48 pictures of disks with tags, classes and masks."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :60]
    rows = {"tags": ["path,StudyDescription,TransducerData"], "classification": ["path,label"]}
    rows["segmentation"] = ["path,mask"]
    for k in range(48):
        radius, name = 6 + k % 3 * 4, f"{k:02d}.png"
        disk = (y - 20) ** 2 + (x - rng.integers(20, 40)) ** 2 < radius**2
        pixels = 60 + 90 * disk + rng.integers(0, 40, disk.shape)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        Image.fromarray(disk.astype(np.uint8)).save(folder / f"mask-{name}")
        rows["tags"].append(
            f"{name},{('US LIVER', 'US THYROID', '')[k % 3]},{('C5-1', 'L12-5')[k % 2]}"
        )
        rows["classification"].append(f"{name},{k % 3}")
        rows["segmentation"].append(f"{name},mask-{name}")
    for name, lines in rows.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def command(what: str, data: Path, run: Path, epochs: int) -> list[str]:
    """The command of a run, for its first start and for resuming.

    Heads use the encoder of the pretraining if there is one.
    """
    exported = run.parent / "pretraining-whole" / "export" / "encoder"
    encoder = exported if exported.exists() else "none"
    labels = data / ("tags.csv" if what == "pretraining" else f"{what}.csv")
    program = str(Path(sys.executable).with_name("tf-dicom-ce"))
    kind = (
        ["train"]
        if what == "pretraining"
        else ["finetune", "--task", what, "--encoder", encoder, "--epoch-steps", "9"]
    )
    folders = ["--data", data, "--labels", labels, "--run", run]
    stands_below = run / "export" / "encoder" == exported
    folders += ["--export", run / "export"] if stands_below else ["--no-export"]
    settings = ["--preset", "quick", "--epochs", epochs, "--batch-size", 4, *SIZE, *ALWAYS]
    return [program, *map(str, (*kind, *folders, *settings))]


def start(words: list[str], log: Path) -> subprocess.Popen:
    """Starts a command, its output added to a log."""
    with log.open("ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=file)


def progress(run: Path) -> int:
    """The newest checkpoint's step; 0 before the first."""
    names = sorted((run / "checkpoints").glob("step-*.npz"))
    return int(names[-1].stem.partition("-")[2]) if names else 0


def resumed(words: list[str], run: Path, kills: int, steps: int, rng: random.Random) -> int:
    """Runs a command to its end, `steps` steps, with SIGKILLs on the way; how many there were."""
    log, done = run.with_suffix(".log"), 0
    while True:
        begin, process = progress(run), start(words, log)
        if done < kills:
            share = max(1, (steps - begin) // (kills - done + 1))
            step = begin + rng.randint(1, share)
            while process.poll() is None and progress(run) < step:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()  # unless it has ended
        if process.wait() == -signal.SIGKILL:
            done += 1
        elif process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {log.read_text()[-2000:]}")
        else:
            return done


def difference(a: Path, b: Path) -> str:
    """What differs between two finished runs; empty if nothing does."""
    from tf_dicom_ce.training.checkpoints import Checkpoints  # TensorFlow takes its time

    x, y = (Checkpoints(run / "checkpoints").latest() for run in (a, b))
    for name in ("variables", "best"):
        p, q = getattr(x, name), getattr(y, name)
        if p.keys() != q.keys():
            return f"the names of {name}"
        unequal = [path for path in p if not np.array_equal(p[path], q[path], equal_nan=True)]
        if unequal:
            return f"{len(unequal)} of {len(p)} {name}, e.g. {unequal[0]}"
    if x.step != y.step or x.state["BestWeights"] != y.state["BestWeights"]:
        return "step or best epoch"
    if (a / "history.csv").read_text() != (b / "history.csv").read_text():
        return "history.csv"
    results = [json.loads((run / "result.json").read_text()) for run in (a, b)]
    return "" if results[0] == results[1] else "result.json"


def measure(stage: Measuring, setup: Setup) -> None:
    """Runs of one kind, each killed `least` times, against one that was left alone."""
    data, name, kills = setup.folder / "data", stage.name, setup.sizes.least
    if not data.exists():
        make_data(data)
    whole, killed = (setup.folder / f"{name}-{way}" for way in ("whole", "killed"))
    epochs, rng = _EPOCHS * kills, random.Random(stage.facts.get("rounds", 0))
    resumed(command(name, data, whole, epochs), whole, 0, 0, rng)

    def rounds() -> Iterator[Round]:
        while True:
            begin = time.monotonic()
            words = command(name, data, killed, epochs)
            done = resumed(words, killed, kills, progress(whole), rng)
            found = {"kills": done, "difference": difference(whole, killed)}
            shutil.rmtree(killed)
            stage.tell(rounds=stage.facts.get("rounds", 0) + 1)
            yield time.monotonic() - begin, {name: [found]}

    stage.keep(rounds())


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Kills and what differs."""
    rows = [
        [name, str(len(stage.rounds)), str(_kills(name, stage)), "; ".join(_wrong(name, stage))]
        for name, stage in stages.items()
    ]
    return [Table("Killed and resumed", ("", "runs", "kills", "what differs"), rows)]


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """Twenty kills of each kind, and no difference."""
    found = []
    for name, stage in stages.items():
        kills = float(_kills(name, stage))
        found.append(at_least(f"Killed and resumed, {name}: kills", 20, kills, ""))
        found.append(none_of(f"Killed and resumed, {name}: differences", _wrong(name, stage)))
    return found


def _kills(name: str, stage: Stage) -> int:
    return sum(stage.of(name, "kills"))


def _wrong(name: str, stage: Stage) -> list[str]:
    return [words for words in stage.of(name, "difference") if words]
