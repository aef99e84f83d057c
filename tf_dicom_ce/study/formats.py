"""Numbers as text, and the tables as CSV."""

import csv
import functools
import io
import re
from collections.abc import Sequence

from tf_dicom_ce.study.results import Compared, Entry
from tf_dicom_ce.study.statistics import CellSummary, PairedTest, Verdict

NOTHING = "–"
_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    NOTHING: "--",
    "±": r"$\pm$",
    "−": "$-$",
}
# From a word with a slash to the next ": " or the end: file names may have spaces.
_PATH = re.compile(r"\S*[/\\].*?(?=: |$)", re.MULTILINE)


def number(value: float | None, digits: int = 3, sign: str = "-") -> str:
    """A number with a true minus, with "+" as the sign also a plus; a dash for None."""
    return NOTHING if value is None else f"{value:{sign}.{digits}f}".replace("-", "−")


signed = functools.partial(number, sign="+")


def p_value(value: float | None) -> str:
    """A p-value; values below 0.001 are all "< 0.001"."""
    if value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def amount(labels: float) -> str:
    """An amount of labels: a share, or above 1 a number of images."""
    return f"{labels:g} labels" if labels > 1 else f"{100 * labels:g} %"


def readout(name: str) -> str:
    """The name of a readout."""
    return name if name == "probe" else f"{name} encoder"


def interval(value: tuple[float, float] | None, write=number) -> str:
    """An interval in brackets, or a dash."""
    return NOTHING if value is None else f"[{write(value[0])}, {write(value[1])}]"


def span(value: tuple[float, float], digits: int = 3) -> str:
    """The smallest and the largest number; a single number if they are equal."""
    low, high = (number(end, digits) for end in value)
    return low if low == high else f"{low} to {high}"


def plus_minus(mean: float, sd: float, digits: int = 3) -> str:
    """Mean ± sd."""
    return f"{number(mean)} ± {number(sd, digits)}"


def without_paths(text: str) -> str:
    """A message without the paths in it, which may name patients."""
    return _PATH.sub("(path)", text)


def markdown(text: object) -> str:
    """Escapes text for Markdown and its HTML, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(str(text).split()))


def rows_of_markdown(text: str) -> list[list[str]]:
    """Cells of a Markdown table, its heading first; other lines are left out."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if set("".join(row)) - set("-: ")]


def latex(text: object) -> str:
    """Escapes text for LaTeX."""
    return "".join(_TEX.get(c, c) for c in str(text))


def table2_csv(table: Sequence[Entry]) -> str:
    """Table 2, one row per cell; missing numbers are empty."""
    return _csv(
        "task measure arm readout labels seeds seeds_planned mean low_95 high_95 sd_seeds "
        "sd_images bootstrap_mean bootstrap_sd n_images n_patients paper_mean paper_sd",
        [
            {
                **_row(entry, entry.summary),
                "seeds": entry.summary.n_seeds if entry.summary else 0,
                "seeds_planned": entry.planned,
                **dict(zip(("paper_mean", "paper_sd"), entry.paper or (), strict=False)),
            }
            for entry in table
        ],
    )


def comparisons_csv(compared: Sequence[Compared]) -> str:
    """All comparisons, one row each."""
    return _csv(
        "task measure readout labels a b difference low_95 high_95 p p_seeds p_adjusted "
        "effect_size share_better share_worse n_patients seeds verdict excluded "
        "p_excluded_adjusted power smallest test paper_difference",
        [
            {
                **_row(c, c.test),
                **_verdict(c.verdict),
                "seeds": c.test and c.test.n_seeds,
                "paper_difference": None if c.paper is None else round(c.paper, 3),
            }
            for c in compared
        ],
    )


def _verdict(found: Verdict | None) -> dict:
    if not found:
        return {"verdict": None}
    adjusted = {"p_adjusted": found.p, "p_excluded_adjusted": found.p_excluded}
    return {"verdict": found.verdict, "excluded": str(found.excluded).lower(), **adjusted}


def _row(entry: Entry | Compared, found: CellSummary | PairedTest | None) -> dict:
    """The common columns of both tables."""
    low, high = (found and found.interval_95) or (None, None)
    return vars(entry) | (vars(found) if found else {}) | {"low_95": low, "high_95": high}


def _csv(columns: str, rows: Sequence[dict]) -> str:
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns.split(), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return file.getvalue()
