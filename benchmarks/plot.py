"""One picture of the speeds."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks import input as reading
from benchmarks import step
from benchmarks.rounds import Stage
from benchmarks.scaling import rates
from benchmarks.tables import digits

_OURS, _OTHERS = "#1b6ca8", "#b8bec6"


def draw(results: Mapping[str, Mapping[str, Stage]], file: Path) -> None:
    """Draws what there is: images a second of the step and of reading, FLOP/s as things grow.

    Args:
        results: Benchmark -> its stages.
        file: SVG.
    """
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "tf_dicom_ce"  # the same file for the same numbers
    from matplotlib import pyplot as plt

    bars: dict[str, dict[str, float]] = {}
    if "step" in results:
        bars |= {f"training step, {k}": v for k, v in step.speeds(results["step"]).items()}
    if "input" in results:
        bars |= {f"input, {k}": v for k, v in reading.speeds(results["input"]).items()}
    growing = rates(results["scaling"]) if "scaling" in results else {}
    count = len(bars) + len(growing)
    if not count:
        return
    rows = -(-count // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(12, 2.6 * rows), layout="constrained")
    cells = iter(axes.flat)
    for (title, sides), axis in zip(bars.items(), cells, strict=False):
        colours = [_OURS if side.startswith("tf_dicom_ce") else _OTHERS for side in sides]
        drawn = axis.barh([*sides], [*sides.values()], color=colours)
        axis.bar_label(drawn, [digits(value) for value in sides.values()], padding=2)
        axis.set(title=f"{title}\nimages/s", xmargin=0.2)
        axis.invert_yaxis()
    for (setting, values), axis in zip(growing.items(), cells, strict=False):
        axis.plot([*values], [rate / 1e9 for rate in values.values()], "o-", color=_OURS)
        axis.set(title=f"training step, growing {setting}\nGFLOP/s", ylim=(0, None))
    for axis in axes.flat:
        axis.set_visible(axis.has_data())
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9)
        axis.tick_params(labelsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
