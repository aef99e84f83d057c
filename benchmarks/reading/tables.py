"""Reading and growing stores in tables, and the goals set for them."""

from statistics import median

from benchmarks.reading.measure import MONAI, OURS, PLAIN
from benchmarks.spreads import ratios, spread
from benchmarks.tables import Goal, Table, at_least, at_most

_TASKS = {
    "cold": "Nothing kept: the store is built, MONAI's cache is filled",
    "direct": "Nothing ever kept (`--direct`)",
    "warm": "Later epochs",
}


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


def growth_tables(results: dict) -> list[Table]:
    """Memory and steps by the number of frames."""
    header = (
        *("frames", "own memory at its highest, MB", "mapped from files, MB", "ms a step"),
        *("… the store not in memory", "waits", "… not in memory", "images/s read"),
    )
    rows = [
        [
            f"{int(frames):,}",
            spread([m["anonymous"] / 1e6 for m in found]),
            spread([m["mapped"] / 1e6 for m in found]),
            spread([1e3 * m["warm"] for m in found]),
            spread([1e3 * m["cold"] for m in found]),
            f"{100 * median(m['waited warm'] for m in found):.2f} %",
            f"{100 * median(m['waited cold'] for m in found):.2f} %",
            spread([m["read"] for m in found]),
        ]
        for frames, found in results.items()
    ]
    note = (
        "Mapped pages (libraries and store) are the system's, which takes them back when memory is "
        "short. With the store driven out of memory, every batch comes from the disk, as from a "
        "store larger than memory."
    )
    return [Table("Training at the quick size as the store grows", header, rows, note)]


def growth_goals(results: dict) -> list[Goal]:
    """Own memory must not grow with the data."""
    own = [median(m["anonymous"] for m in found) for found in results.values()]
    first, *_, last = results
    what = f"Memory of training, {int(last):,} frames against {int(first):,}"
    grown = max(own) / own[0]
    return [at_most(what, 1.1, grown, "×")]
