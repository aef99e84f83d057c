"""Size, memory and time of what `predict` makes of long cines (6 min).

    python -m benchmarks cines --frames 100 1000

A cine of 480 × 640 pixels shows a bright ellipse and a dark one, two organs for a head of a single
convolution. `predict` answers all frames in a fresh process with empty caches. Prints the sizes of
SEG and SR in MB; wall time, and processor time of all its processes, in seconds; and the highest
memory in MB that was ever resident: of `predict` itself, and of the largest of its worker
processes. What processes share, such as libraries, counts in each.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom.uid import JPEGLSLossless

from benchmarks.tables import aligned
from tf_dicom_ce.phantom import dicom_file
from tf_dicom_ce.phantom.studies import RawTags

_SIZE = (480, 640)
_WAY = 64  # pixels that the ellipses move, there and back
_LOOK = 0.1  # seconds between two looks at the processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])


def run(options: argparse.Namespace) -> None:
    lines = [["frames", "SEG MB", "SR MB", "seconds", "CPU seconds", "predict MB", "worker MB"]]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        export_head(place / "organs")
        for frames in options.frames:
            source, out = place / f"{frames}", place / f"out-{frames}"
            write_cine(source, frames)
            measured = _predict(source, place / "organs", out)
            (seg,), (sr,) = (list((out / kind).iterdir()) for kind in ("seg", "sr"))
            sizes = (f"{file.stat().st_size / 1e6:.1f}" for file in (seg, sr))
            lines.append([f"{frames}", *sizes, *(f"{number:.0f}" for number in measured)])
    print(aligned(lines))


def export_head(root: Path) -> None:
    """Exports a head: the liver is brighter than the mean by a deviation, the kidney darker."""
    import keras

    from tf_dicom_ce.saved_model.writing import write_model

    def answer(logits):
        label = keras.ops.cast(keras.ops.argmax(logits, axis=-1), "uint8")
        return {"probabilities": keras.ops.softmax(logits), "mask": label}

    size = _SIZE[0] // 2, _SIZE[1] // 2
    model = keras.Sequential([keras.Input((*size, 1)), keras.layers.Conv2D(3, 1)])
    model.layers[-1].set_weights([np.array([[[[0.0, 1.0, -1.0]]]]), np.array([0.0, -1.0, -1.0])])
    content = {"task": "segmentation", "classes": ["background", "liver", "kidney"]}
    content |= {"data_fingerprint": "none", "synthetic_data": True}
    write_model(model, root, "segmentation", size, content, answer)


def write_cine(folder: Path, frames: int) -> None:
    """Writes a calibrated cine of two ellipses that move."""
    folder.mkdir()
    rows, columns = _SIZE
    down, across = np.mgrid[:rows, : columns + _WAY]
    whole = np.random.default_rng(0).integers(118, 139, down.shape, np.uint8)
    for row, column, gray in ((170, 230, 230), (310, 450, 30)):
        whole[((down - row) / 70) ** 2 + ((across - column) / 110) ** 2 < 1] = gray
    steps = (abs(k % (2 * _WAY) - _WAY) for k in range(frames))
    picture = dicom_file.Picture(
        frames=np.stack([whole[:, k : k + columns] for k in steps]),
        region=(0, 0, columns, rows),
        spacing=0.2,
        seed=0,
        vendor="SYNTHETIC",
        patient="P0",
        instance=1,
        tags=RawTags("US ABDOMEN", ("C5-1",), "", ""),
        syntax=JPEGLSLossless,
        rgb=False,
    )
    dicom_file.write(picture, folder / "cine.dcm")


def _predict(source: Path, head: Path, out: Path) -> tuple[float, float, float, float]:
    """Wall time and processor time; MB of the command's process, and of the largest other one."""
    words = ["predict", source, "--model", head, "--out", out, "--frames", "all"]
    environment = os.environ | {"XDG_CACHE_HOME": str(out.with_suffix(".cache"))}
    found: dict[int, tuple[float, float]] = {}
    command = [sys.executable, "-m", "tf_dicom_ce.cli.child", *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}  # it ends with this process
    start = time.monotonic()
    with subprocess.Popen(command, env=environment, **pipes) as process:
        while process.poll() is None:
            found |= _processes(process.pid)
            time.sleep(_LOOK)
    seconds = time.monotonic() - start
    if process.returncode:
        raise RuntimeError(f"predict ended with {process.returncode}")
    cpu = sum(spent for _, spent in found.values())
    own, _ = found.pop(process.pid)
    return seconds, cpu, own, max(highest for highest, _ in found.values())


def _processes(pid: int) -> dict[int, tuple[float, float]]:
    """A process and all that it has started: highest memory so far, MB, and processor time, s."""
    found, todo = {}, [pid]
    for number in todo:
        folder = Path("/proc") / str(number)
        with contextlib.suppress(OSError, TypeError):  # it has just ended
            highest = re.search(r"^VmHWM:\s+(\d+) kB", (folder / "status").read_text(), re.M)[1]
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])  # in the program, and in the system for it
            found[number] = int(highest) / 1024, ticks / os.sysconf("SC_CLK_TCK")
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return found
