"""Charts as SVG for a page: text stays text, colours fit light and dark."""

import importlib.util
import io
import re
from collections.abc import Sequence

import numpy as np

from tf_dicom_ce.study.formats import amount
from tf_dicom_ce.study.protocol import ARMS
from tf_dicom_ce.study.results import CONTROLS, Compared, Entry

# Mid-tones: at least 3 to 1 against the page, light or dark.
_COLOURS = (
    *("#868686", "#3f87d0", "#d4662a", "#b3820f", "#2f9a70", "#b65ba6"),
    *("#8f74d6", "#d05565", "#a9704a", "#7f8a3e", "#4d939f", "#5f7fbf", "#c05f8c", "#6f9a3a"),
)
_MARKERS = "so^vDPXphd*<>8"
_STYLES = {
    arm: {"color": colour, "marker": marker, "ls": "--" if "shuffled" in arm else "-"}
    for arm, colour, marker in zip(ARMS, _COLOURS, _MARKERS, strict=True)
}
_INK = "#010203"  # is replaced by the page's colour of text
_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **{
        f"{name}color": _INK
        for name in ("text.", "axes.edge", "axes.label", "xtick.", "ytick.", "grid.")
    },
}
# Ids that every chart has; other ids are hashed with the chart's name.
_NUMBERED = re.compile(r'id="([A-Za-z][\w.]*_\d+)"')
_STEP = 0.04  # shift between arms, as a share of the fraction, so that intervals stay visible


def have_matplotlib() -> bool:
    """Whether charts can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def efficiency(table: Sequence[Entry], task: str, readout: str) -> str | None:
    """Label-efficiency curves of all arms, with 95 % intervals, as SVG; None without a result.

    The curves are over shares of the labels, or over numbers if there are no shares.
    """
    entries = [e for e in table if (e.task, e.readout) == (task, readout) and e.summary]
    entries = [e for e in entries if e.labels <= 1] or entries
    if not entries:
        return None
    arms = list(dict.fromkeys(entry.arm for entry in entries))

    def draw(axes):
        for k, arm in enumerate(arms):
            of_arm = sorted((e for e in entries if e.arm == arm), key=lambda e: e.labels)
            means = [e.summary.mean for e in of_arm]
            ends = [e.summary.interval_95 or (e.summary.mean,) * 2 for e in of_arm]
            low, high = np.transpose(ends)
            axes.errorbar(
                [e.labels * (1 + _STEP * (k - (len(arms) - 1) / 2)) for e in of_arm],
                means,
                np.maximum(0, (means - low, high - means)),
                **{**_STYLES[arm], "markersize": 5, "linewidth": 1.5, "capsize": 2},
                label=arm,
            )
        amounts = sorted({e.labels for e in entries})
        axes.set_xscale("log")
        axes.set_xticks(amounts, [amount(labels) for labels in amounts])
        axes.set_xticks([], minor=True)
        axes.set_xlim(amounts[0] / 1.3, amounts[-1] * 1.3)
        axes.set_xlabel("labels used")
        axes.set_ylabel(entries[0].measure)
        axes.grid(axis="y", alpha=0.15)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    return _svg(draw, (6.2, 3.4), f"{task}-{readout}")


def true_against_shuffled(compared: Sequence[Compared], task: str) -> str | None:
    """The gain of true over shuffled tags, with 95 % intervals, as SVG; None without a result."""
    shown = [c for c in compared if c.task == task and (c.a, c.b) in CONTROLS and c.test]
    if not shown:
        return None

    def draw(axes):
        for k, c in enumerate(shown):
            low, high = c.test.interval_95 or (c.test.difference,) * 2
            style = _STYLES[c.a]
            axes.plot([low, high], [k, k], color=style["color"], linewidth=2)
            axes.plot(c.test.difference, k, color=style["color"], marker=style["marker"])
        axes.axvline(0, color=_INK, linewidth=0.8)
        names = [f"{c.a}, {c.readout}, {amount(c.labels)}" for c in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel(f"{shown[0].measure}: true tags minus shuffled tags (95 % interval)")
        axes.grid(axis="x", alpha=0.15)

    return _svg(draw, (6.2, 1 + 0.34 * len(shown)), f"control-{task}")


def _svg(draw, size: tuple[float, float], name: str) -> str:
    """The <svg> element only; `name` keeps its ids apart from those of other charts."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(size, layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # Styles would apply to the whole page, and metadata would name the drawing program.
    text = re.sub(r"<(metadata|style).*?</\1>", "", text, flags=re.DOTALL)
    text = _NUMBERED.sub(rf'id="{name}-\1"', text)
    return text.replace(_INK, "currentColor")
