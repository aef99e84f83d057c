"""Compares ways from DICOM files to batches: MONAI, a pydicom loop, this project (4 min)."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.reading.generated import write_dicom
from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, at_least, ratios, spread
from benchmarks.turns import Contender
from tf_dicom_ce.config import PretrainConfig

PLAIN = "pydicom loop, 1 process"
OURS = "tf_dicom_ce"
MONAI = {
    "MONAI CacheDataset, 0 workers": ("CacheDataset", 0),
    "MONAI CacheDataset, 2 workers": ("CacheDataset", 2),
    "MONAI PersistentDataset, 2 workers": ("PersistentDataset", 2),
}
_TASKS = {
    "cold": "Nothing kept: the store is built, MONAI's cache is filled",
    "direct": "Nothing ever kept (`--direct`)",
    "warm": "Later epochs",
}
_SEPARATOR = ", "
#: Task and size -> seconds.
STAGES = {"warm, paper": 15.0, "warm, quick": 15.0, "cold, paper": 60.0, "direct, paper": 10.0}
_PASSES = {"cold": 1, "direct": 1, "warm": 3}  # in one turn


def measure(stage: Measuring, setup: Setup) -> None:
    """Seconds of a pass over all files, by one task at one size."""
    sizes, files = setup.sizes, setup.folder / "dicom"
    if not files.exists():
        write_dicom(files, sizes.dicom_files, sizes.dicom)
    size = sum(path.stat().st_size for path in files.iterdir()) / sizes.dicom_files
    task, name = stage.name.split(_SEPARATOR)
    config = sizes.configs[name]
    setting = f"{config.image_size[0]}×{config.image_size[1]}, batch {config.batch_size}"
    stage.tell(files=sizes.dicom_files, bytes=size, pixels=sizes.dicom, setting=setting)
    with contextlib.ExitStack() as stack:
        contenders = _contenders(stack, config, files, setup.folder / stage.name, task)
        stage.take(
            {
                side: lambda contender=contender: contender.ask(task, _PASSES[task])
                for side, contender in contenders.items()
            }
        )


def _contenders(
    stack: contextlib.ExitStack, config: PretrainConfig, files: Path, cache: Path, task: str
) -> dict[str, Contender]:
    """Those that know a task."""

    def enter(function: str, **more: object) -> Contender:
        settings = {"image_size": config.image_size, "batch_size": config.batch_size, **more}
        function = f"benchmarks.reading.contenders:{function}"
        return stack.enter_context(Contender(function, folder=str(files), **settings))

    found = {OURS: enter("ours", cache=str(cache / "ours"))}
    if task == "cold":
        found = {PLAIN: enter("plain")} | found
    if task != "direct":
        for name, (dataset, workers) in MONAI.items():
            where = str(cache / name)
            found[name] = enter("monai", cache=where, dataset=dataset, workers=workers)
    return found


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """Images a second, task by task."""
    return [_table(name.split(_SEPARATOR)[0], stage) for name, stage in stages.items()]


def _table(task: str, stage: Stage) -> Table:
    height, width = stage.facts["pixels"]
    files = stage.facts["files"]
    about = (
        f"{files} files of {height}×{width}, {stage.facts['bytes'] / 1024:.0f} KiB: JPEG-LS 60 %, "
        "RLE 20 %, uncompressed 20 %. The files are in the page cache."
    )
    rows = [
        [
            side,
            spread([files / seconds for seconds in stage.of(side)]),
            "" if side == OURS else f"{spread(ratios(stage.of(side), stage.of(OURS)))}× as fast",
        ]
        for side in stage.sides
    ]
    title = f"{_TASKS[task]}; {stage.facts['setting']}"
    return Table(title, ("", "images/s", f"{OURS} is"), rows, about if task == "cold" else "")


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """Against MONAI and against the plain loop."""
    found = []
    for name, stage in stages.items():
        task, setting = name.split(_SEPARATOR)[0], stage.facts["setting"]
        if task == "warm":
            rivals = {side: 10.0 if MONAI[side][1] else 1.0 for side in MONAI}
            del rivals["MONAI PersistentDataset, 2 workers"]  # CacheDataset is faster
        else:
            rivals = {PLAIN: 1.6} if task == "cold" else {}
        for side, wanted in rivals.items():
            faster = median(ratios(stage.of(side), stage.of(OURS)))
            what = f"Input, {'later epochs' if task == 'warm' else task}, {setting}"
            found.append(at_least(f"{what}: speed against {side}", wanted, faster))
    return found


def speeds(stages: Mapping[str, Stage]) -> dict[str, dict[str, float]]:
    """What -> side -> images a second, for the plot."""
    return {
        f"{name.split(_SEPARATOR)[0]}\n{stage.facts['setting']}": {
            side: stage.facts["files"] / median(stage.of(side)) for side in stage.sides
        }
        for name, stage in stages.items()
        if not name.startswith("direct")
    }
