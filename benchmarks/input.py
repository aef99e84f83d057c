"""Compares ways from DICOM files to batches: MONAI, a pydicom loop, this project (4 min)."""

import contextlib
from pathlib import Path
from statistics import median

from benchmarks.reading.generated import write_dicom
from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table, at_least, ratios, spread
from benchmarks.turns import Contender, by_turns
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


def tables(results: dict) -> list[Table]:
    """Images a second, task by task."""
    height, width = results["pixels"]
    about = (
        f"{results['files']} files of {height}×{width}, {results['bytes'] / 1024:.0f} KiB: JPEG-LS "
        "60 %, RLE 20 %, uncompressed 20 %. The files are in the page cache."
    )
    return [
        Table(
            f"{_TASKS[task]}; {setting}",
            ("", "images/s", f"{OURS} is"),
            [
                [
                    side,
                    spread([results["files"] / s for s in values]),
                    "" if side == OURS else f"{spread(ratios(values, sides[OURS]))}× as fast",
                ]
                for side, values in sides.items()
            ],
            about if task == "cold" else "",
        )
        for task, settings in results["seconds"].items()
        for setting, sides in settings.items()
    ]


def goals(results: dict) -> list[Goal]:
    """Against MONAI's best and against the plain loop."""
    found = []
    with_workers = [side for side, (_, workers) in MONAI.items() if workers]
    for setting, sides in results["seconds"]["warm"].items():
        for rivals in (with_workers, MONAI):
            best = min(rivals, key=lambda side: median(sides[side]))
            faster = median(ratios(sides[best], sides[OURS]))
            what = f"Input, later epochs, {setting}: speed against {best}"
            found.append(at_least(what, 5, faster))
    for setting, sides in results["seconds"]["cold"].items():
        faster = median(ratios(sides[PLAIN], sides[OURS]))
        found.append(at_least(f"Input, cold, {setting}: speed against a {PLAIN}", 1.6, faster))
    return found


def speeds(results: dict) -> dict[str, dict[str, float]]:
    """What -> side -> images a second, for the plot."""
    return {
        f"{task}\n{setting}": {
            side: results["files"] / median(values) for side, values in sides.items()
        }
        for task in ("cold", "warm")
        for setting, sides in results["seconds"][task].items()
    }
