"""Memory and speed of training as the store grows, and with nothing of it in memory (3 min)."""

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.reading.generated import write_store
from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import LABELS, Setup, Sizes, as_json
from benchmarks.tables import Goal, Table, at_most, spread
from benchmarks.turns import Contender

STAGES = {"stores": 60.0}
_STEPS = 40
_WARM_UP = 5
_PAGE = 4096  # bytes


def measure(stage: Measuring, setup: Setup) -> None:
    """Trains on stores of different sizes, a fresh process each."""
    sizes = setup.sizes
    for frames in sizes.frames:
        write_store(setup.folder / str(frames), frames, sizes.configs["quick"].image_size)
    turns = {
        str(frames): lambda frames=frames: [_train(setup.folder / str(frames), frames, sizes)]
        for frames in sizes.frames
    }
    stage.take(turns, warm_up=False)


def _train(store: Path, frames: int, sizes: Sizes) -> dict[str, float]:
    """A fresh process: from the disk, then from memory, then a whole epoch of reading."""
    config = sizes.configs["quick"]
    preset = as_json(config)
    forget(store / "images.bin")
    with Contender(
        "benchmarks.pretraining.ours:tasks", preset=preset, labels=LABELS, store=str(store)
    ) as contender:
        contender.ask("step", _WARM_UP)
        cold = contender.ask("step from the store", _STEPS)
        epoch = contender.ask("read", frames // config.batch_size)
        warm = contender.ask("step from the store", _STEPS)
        return {
            "cold": median(m["seconds"] for m in cold),
            "waited cold": sum(m["waited"] for m in cold) / sum(m["seconds"] for m in cold),
            "warm": median(m["seconds"] for m in warm),
            "waited warm": sum(m["waited"] for m in warm) / sum(m["seconds"] for m in warm),
            "read": frames / sum(m["seconds"] for m in epoch),
            **contender.memory,
        }


def forget(file: Path) -> None:
    """Removes a file from the page cache, as if other data had displaced it.

    Raises:
        RuntimeError: The file is still there: its file system is in memory, or a process maps it.
    """
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.preadv(handle, [bytearray(_PAGE)], file.stat().st_size // 2, os.RWF_NOWAIT)
    except BlockingIOError:
        return
    finally:
        os.close(handle)
    raise RuntimeError("The system keeps the store in memory: use --results on a disk.")


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Memory and steps by the number of frames."""
    return [_table(stage) for stage in stages.values()]


def _table(stage: Stage) -> Table:
    header = (
        *("frames", "own memory at its highest, MB", "mapped from files, MB", "ms a step"),
        *("… the store not in memory", "waits", "… not in memory", "images/s read"),
    )
    rows = [
        [
            f"{int(frames):,}",
            *(spread([m / 1e6 for m in stage.of(frames, k)]) for k in ("anonymous", "mapped")),
            *(spread([1e3 * s for s in stage.of(frames, k)]) for k in ("warm", "cold")),
            *(f"{100 * median(stage.of(frames, f'waited {k}')):.2f} %" for k in ("warm", "cold")),
            spread(stage.of(frames, "read")),
        ]
        for frames in stage.sides
    ]
    note = (
        "Mapped pages (libraries and store) belong to the system, which frees them when memory is "
        "short. With the store not in memory, every batch is read from the disk, as with a store "
        "larger than memory."
    )
    return Table("Training at the quick size as the store grows", header, rows, note)


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """Own memory must not grow with the data."""
    found = []
    for stage in stages.values():
        own = [median(stage.of(frames, "anonymous")) for frames in stage.sides]
        what = f"Memory of training, {int(stage.sides[-1]):,} frames against {stage.sides[0]}"
        found.append(at_most(what, 1.1, max(own) / own[0], "×"))
    return found
