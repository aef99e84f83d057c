"""Compares the probes of several encoders, by set and arm, paired by draw (seconds).

    python -m benchmarks encoders probes

The folder holds the results of `tf-dicom-ce probe … --run probes/SET/ARM-SEED`: sets of labelled
images, arms, and pretraining seeds. A cell is the mean over seeds and draws. The difference from an
arm (--against, by default imagenet) is taken by draw, from means over the seeds. Its 95 % interval
is that of Student's t over the draws: it covers other labels of the same images, not other seeds.
The last column has the mean of each seed. --plot draws arms named ARM.COUNT by their number of
images; arms without a count are horizontal lines.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.tables import aligned
from tf_dicom_ce.metrics import mean_interval

_MEASURES = ("dice", "accuracy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("probes", type=Path, help="folder of SET/ARM-SEED/probe.csv")
    parser.add_argument("--against", default="imagenet", metavar="ARM", help="default: imagenet")
    parser.add_argument("--readout", default="linear", help="default: linear")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="of arms ARM.COUNT")


def run(options: argparse.Namespace) -> None:
    for place in sorted(path for path in options.probes.iterdir() if path.is_dir()):
        arms = read(place, options.readout)
        print(f"\n{place.name}, {options.readout}")
        against = np.mean(arms[options.against], axis=0)
        rows = [["arm", "mean", f"less {options.against}", "95 %", "by seed"]]
        for arm, of_seeds in sorted(arms.items(), key=lambda pair: np.mean(pair[1])):
            differences = np.mean(of_seeds, axis=0) - against
            mean, low, high = mean_interval(differences)
            words = [f"{mean:+.3f}", f"{low:+.3f} to {high:+.3f}"]
            seeds = " ".join(f"{np.mean(of_seed):.3f}" for of_seed in of_seeds)
            same = arm == options.against
            rows.append([arm, f"{np.mean(of_seeds):.3f}", *(["", ""] if same else words), seeds])
        print(aligned(rows))
    if options.plot:
        draw(options)


def draw(options: argparse.Namespace) -> None:
    """Draws the measure against the number of images, with 95 % intervals over the draws."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "tf_dicom_ce"
    from matplotlib import pyplot as plt

    places = sorted(path for path in options.probes.iterdir() if path.is_dir())
    figure, axes = plt.subplots(
        1, len(places), figsize=(4.2 * len(places), 3), layout="constrained", squeeze=False
    )
    for place, axis in zip(places, axes.flat, strict=True):
        curves = defaultdict(list)
        for arm, of_seeds in read(place, options.readout).items():
            mean, low, high = mean_interval(np.mean(of_seeds, axis=0))
            name, _, count = arm.rpartition(".")
            if name:
                curves[name].append((int(count), mean, mean - low, high - mean))
            else:
                axis.axhline(mean, linestyle=":", color="gray")
                axis.annotate(arm, (1, mean), xycoords=("axes fraction", "data"), ha="right")
        for name, points in sorted(curves.items()):
            count, mean, below, above = zip(*sorted(points), strict=True)
            axis.errorbar(count, mean, (below, above), marker="o", capsize=3, label=name)
        axis.set(title=place.name, xlabel="unlabelled images", xscale="log")
        axis.set_xticks(sorted({p[0] for points in curves.values() for p in points}))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes.flat[0].legend()
    figure.savefig(options.plot, metadata={"Date": None})
    plt.close(figure)


def read(place: Path, readout: str) -> dict[str, list[np.ndarray]]:
    """Arm -> for every seed the measure by draw."""
    arms = defaultdict(list)
    for path in sorted(place.glob("*-*/probe.csv")):
        with path.open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["readout"] == readout]
        measure = next(name for name in _MEASURES if name in lines[0])
        lines.sort(key=lambda line: int(line["draw"]))
        arm = path.parent.name.rpartition("-")[0]
        arms[arm].append(np.array([float(line[measure]) for line in lines]))
    return arms
