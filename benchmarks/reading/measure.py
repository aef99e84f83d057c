"""Measures the ways from files to batches by turns."""

import contextlib
from pathlib import Path

from benchmarks.reading.generated import write_dicom
from benchmarks.sizes import Sizes
from benchmarks.turns import Contender, by_turns
from tf_dicom_ce.config import PretrainConfig

PLAIN = "pydicom loop, 1 process"
OURS = "tf_dicom_ce"
MONAI = {
    "MONAI CacheDataset, 0 workers": ("CacheDataset", 0),
    "MONAI CacheDataset, 2 workers": ("CacheDataset", 2),
    "MONAI PersistentDataset, 2 workers": ("PersistentDataset", 2),
}
_SECONDS = {"cold": 60.0, "direct": 0.0, "warm": 15.0}
_PASSES = {"cold": 1, "direct": 1, "warm": 3}  # in one turn


def measure(sizes: Sizes, folder: Path) -> dict:
    """Seconds of a pass over all files: task -> image size -> side -> values."""
    files = folder / "dicom"
    write_dicom(files, sizes.dicom_files, sizes.dicom)
    size = sum(path.stat().st_size for path in files.iterdir()) / sizes.dicom_files
    paper, quick = sizes.configs["paper"], sizes.configs["quick"]
    found = {"cold": {}, "direct": {}, "warm": {}}
    for config, tasks in ((paper, ("cold", "direct", "warm")), (quick, ("warm",))):
        setting = f"{config.image_size[0]}×{config.image_size[1]}, batch {config.batch_size}"
        with contextlib.ExitStack() as stack:
            contenders = _contenders(stack, config, files, folder / setting)
            for task in tasks:
                found[task][setting] = _turns(task, contenders, sizes)
    return {"files": sizes.dicom_files, "bytes": size, "pixels": sizes.dicom, "seconds": found}


def _contenders(
    stack: contextlib.ExitStack, config: PretrainConfig, files: Path, cache: Path
) -> dict[str, Contender]:
    def enter(function: str, **more: object) -> Contender:
        settings = {"image_size": config.image_size, "batch_size": config.batch_size, **more}
        function = f"benchmarks.reading.contenders:{function}"
        return stack.enter_context(Contender(function, folder=str(files), **settings))

    found = {PLAIN: enter("plain"), OURS: enter("ours", cache=str(cache / "ours"))}
    for name, (dataset, workers) in MONAI.items():
        where = str(cache / name)
        found[name] = enter("monai", cache=where, dataset=dataset, workers=workers)
    return found


def _turns(task: str, contenders: dict[str, Contender], sizes: Sizes) -> dict[str, list[float]]:
    turns = {
        side: lambda contender=contender: contender.ask(task, _PASSES[task])
        for side, contender in contenders.items()
        if task in contender.tasks
    }
    measures = by_turns(turns, _SECONDS[task] * sizes.patience, sizes.least)
    return {side: [m["seconds"] for m in found] for side, found in measures.items()}
