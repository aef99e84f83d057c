"""Kills small runs at random moments, resumes them, compares with runs left alone (20 min).

Trains a pretraining, a classifier and a segmentation head with `--deterministic`, each once without
interruption and once with SIGKILLs at random moments and `--resume`. All variables (weights,
statistics, seeds, optimizers, running means), the best weights and the history have to be equal,
bit for bit. Exits with 1 if they are not.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = ["--image-size", "32", "32", "--width", "0.03125"]
ALWAYS = ["--deterministic", "--checkpoint-steps", "3", "--resume"]
WHAT = ("pretraining", "classification", "segmentation")


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
        ["train"] if what == "pretraining" else ["finetune", "--task", what, "--encoder", encoder]
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


def kill_and_resume(
    words: list[str], run: Path, kills: int, longest: float, rng, from_step: int = 0
) -> int:
    """Runs a command to its end with SIGKILLs on the way; returns how many there were."""
    log, done = run.with_suffix(".log"), 0
    while True:
        process = start(words, log)
        while done < kills and progress(run) < from_step and process.poll() is None:
            time.sleep(0.05)
        try:
            # The last start is left alone.
            code = process.wait(rng.uniform(0, longest) if done < kills else None)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            print(f"  kill {done}: at step {progress(run)} or after", flush=True)
            continue
        if code:
            sys.exit(f"exit code {code}:\n{log.read_text()[-2000:]}")
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--longest", type=float, default=12.0, help="seconds before a kill")
    parser.add_argument("--from-step", type=int, default=0, help="saved before any kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)


def run(options: argparse.Namespace) -> int:
    rng, failures = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, "data")
        make_data(data)
        for what in options.what:
            whole, killed = Path(name, f"{what}-whole"), Path(name, f"{what}-killed")
            kill_and_resume(command(what, data, whole, options.epochs), whole, 0, 0, rng)
            words = command(what, data, killed, options.epochs)
            kills = kill_and_resume(
                words, killed, options.kills, options.longest, rng, options.from_step
            )
            found = difference(whole, killed)
            failures += bool(found) or kills < options.kills
            print(
                f"{what}: {kills} kills; {f'differs in {found}' if found else 'equal'}", flush=True
            )
            shutil.rmtree(killed)
    return int(bool(failures))
