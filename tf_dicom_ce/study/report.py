"""The report on a study: an HTML page, and its tables as Markdown, CSV and LaTeX."""

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from scipy import stats

from tf_dicom_ce.study import charts, exhibits, formats
from tf_dicom_ce.study.results import (
    PAIRS,
    Cell,
    Compared,
    Entry,
    collect,
    comparisons,
    entries,
)
from tf_dicom_ce.study.runner import State, Study, read_json
from tf_dicom_ce.templates import fill
from tf_dicom_ce.whole_files import write_text

#: Descriptions of `protocol.ARMS`, in their order.
_WORDS = {
    "none": "no pretraining",
    "ce": "context encoder (inpainting), no tags",
    "ce+dicom": "context encoder whose discriminator sees the DICOM tags: the paper's method",
    "ce+shuffled": "the same with the tags shuffled among patients: the control",
    "tags": "predicting the tags, no inpainting",
    "tags shuffled": "the same with the tags shuffled among patients: the control",
    "ce+tags": "inpainting and predicting the tags",
    "ce+tags shuffled": "the same with the tags shuffled among patients: the control",
    "ce+acgan": "context encoder whose discriminator predicts the tags (AC-GAN)",
    **{f"ce+dicom noise {n}": f"ce+dicom with {n} % of the tags wrong" for n in (10, 30, 50)},
    "distilled": "learning the features of an ImageNet network on the images",
    "imagenet": "no pretraining of our own: a network trained on ImageNet's photographs",
}
_FEW_PATIENTS = 6  # with fewer the sign-flip test cannot reach p < 0.05
_FEW_SEEDS = 5  # with fewer only differences of many standard errors are shown


def write_report(study: Study, folder: Path, difficulty: str | None = None) -> None:
    """Writes `report.html`, `report.md`, `table2.csv`, `table2.tex` and `comparisons.csv`.

    Reports the finished jobs; each file in `folder` is whole at any moment. `difficulty` is a
    Markdown table with the results of simple methods on the data.

    Raises:
        UserError: See `collect`.
    """
    cells = collect(study)
    table = entries(study, cells)
    protocol = read_json(study.folder / "protocol.json")
    compared = comparisons(table, cells, protocol["effect"])
    states = [study.state(job) for job in study.jobs]
    complete = set(states) == {State.DONE}
    note = "" if complete else f"This study is not complete: {study.counts()}."
    tasks = list(dict.fromkeys(entry.task for entry in table))
    content = {
        "name": protocol["name"],
        "effect": protocol["effect"],
        "note": note,
        "numbers": _numbers(study, cells, states),
        "powers": _powers(compared),
        "summary": _summary(compared),
        "warnings": _warnings(table, compared),
        "tasks": [_task(task, table, compared) for task in tasks],
        **_table2(table),
        "arms": [(arm, words) for arm, words in _WORDS.items() if arm in {e.arm for e in table}],
        "measures": {entry.task: entry.measure for entry in table},
        "losses": _matrix(exhibits.losses(study)),
        "sensitivities": _matrix(exhibits.sensitivities(study)),
        "difficulty": formats.rows_of_markdown(difficulty or ""),
        "provenance": [*exhibits.provenance(study), *_rates(cells)],
        "failures": exhibits.failures(study),
    }
    condition, overlays = exhibits.overlays(study)
    pictures = {
        "charts": _charts(tasks, table, compared),
        "have_charts": charts.have_matplotlib(),
        "panels": exhibits.panels(study),
        "overlays": overlays,
        "condition": condition,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.html", _render("study.html.jinja", content | pictures))
    write_text(folder / "report.md", _render("study.md.jinja", content))
    write_text(folder / "table2.csv", formats.table2_csv(table))
    write_text(folder / "table2.tex", _render("table2.tex.jinja", content))
    write_text(folder / "comparisons.csv", formats.comparisons_csv(compared))


def _numbers(study: Study, cells: Sequence[Cell], states: Sequence[State]) -> list[tuple[str, str]]:
    """The numbers at the top of the report."""
    seeds = len({job.cell["seed"] for job in study.jobs})
    shown = [(f"{states.count(State.DONE)} / {len(states)}", "jobs done"), (f"{seeds}", "seeds")]
    for cell in {cell.task: cell for cell in cells}.values():
        counts = f"{len(cell.patients):,} / {len(np.unique(cell.patients)):,}"
        without = f" ({cell.left_out:,} without a class in the truth left out)"
        shown.append(
            (counts, f"test images / patients, {cell.task}{without if cell.left_out else ''}")
        )
    return shown


def _rates(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """How often each learning rate was chosen, by task and arm, if there were several."""
    found: dict[tuple[str, str], collections.Counter] = {}
    for cell in cells:
        rates = (name for name in cell.chosen if name.startswith("rate-"))
        found.setdefault((cell.task, cell.arm), collections.Counter()).update(rates)
    return [
        (f"{task}, {arm}, chosen learning rates", _counted(counts))
        for (task, arm), counts in found.items()
        if counts
    ]


def _counted(counts: collections.Counter) -> str:
    return ", ".join(f"{name.removeprefix('rate-')} × {n}" for name, n in sorted(counts.items()))


def _summary(compared: Sequence[Compared]) -> list[tuple[str, list[dict]]]:
    """For each question and task, the conditions with each verdict."""
    questions: dict[str, dict[str, dict]] = {}
    for c in compared:
        of_task = questions.setdefault(PAIRS[c.a, c.b], {}).setdefault(c.task, {})
        verdict = (c.verdict.verdict if c.verdict else "missing").replace(" ", "_")
        of_task.setdefault(verdict, []).append(c)
        of_task |= {"a": c.a, "b": c.b, "task": c.task}
    verdicts = {verdict: [] for verdict in ("better", "worse", "excluded", "not_shown", "missing")}
    return [(asked, [verdicts | s for s in tasks.values()]) for asked, tasks in questions.items()]


def _powers(compared: Sequence[Compared]) -> list[dict]:
    """For each question and task, the range of power and detectable difference over conditions."""
    found: dict[tuple[str, str], list[Compared]] = {}
    for c in compared:
        if c.power is not None:
            found.setdefault((PAIRS[c.a, c.b], c.task), []).append(c)
    return [
        {
            "question": question,
            "task": task,
            "measure": of[0].measure,
            "seeds": min(c.test.n_seeds for c in of),
            "patients": min(c.test.n_patients for c in of),
            "smallest": (min(c.smallest for c in of), max(c.smallest for c in of)),
            "power": (min(c.power for c in of), max(c.power for c in of)),
        }
        for (question, task), of in found.items()
    ]


def _warnings(table: Sequence[Entry], compared: Sequence[Compared]) -> list[str]:
    """Warnings if the study can show only little."""
    tests = [c.test for c in compared if c.test]
    warnings = []
    if any(t.n_seeds < 2 for t in tests):
        warnings.append(
            "Some pairs of arms have one finished seed in common: a single run shows nothing."
        )
    seeds = min((t.n_seeds for t in tests if t.n_seeds > 1), default=_FEW_SEEDS)
    if seeds < _FEW_SEEDS:
        errors = stats.t.ppf(0.975, seeds - 1)
        warnings.append(
            f"Some pairs of arms have {seeds} finished seeds in common: to be shown, a difference "
            f"has to be {errors:.1f} times its standard error, and more in a family."
        )
    if any(t.n_patients < _FEW_PATIENTS for t in tests):
        warnings.append("Fewer than six test patients count: no test can reach p < 0.05.")
    if not any(entry.summary for entry in table):
        warnings.append("No head is done yet: there is nothing to compare.")
    return warnings


def _table2(table: Sequence[Entry]) -> dict:
    """Table 2 of all tasks: rows are arms and states of the encoder, columns tasks and labels."""
    return {
        "columns": list(dict.fromkeys((e.task, e.labels) for e in table)),
        "rows": list(dict.fromkeys((e.arm, e.readout) for e in table)),
        "cells": {(e.task, e.arm, e.readout, e.labels): e for e in table},
    }


def _task(task: str, table: Sequence[Entry], compared: Sequence[Compared]) -> dict:
    """A task's columns of Table 2, ours and the paper's, and its comparisons."""
    compared = [c for c in compared if c.task == task]
    return {
        "name": task,
        "measure": next(e.measure for e in table if e.task == task),
        "labels": sorted({e.labels for e in table if e.task == task}),
        "in_paper": sorted({e.labels for e in table if e.task == task and e.paper}),
        "compared": compared,
        "tests": sorted({c.test.test for c in compared if c.test}),
    }


def _charts(
    tasks: Sequence[str], table: Sequence[Entry], compared: Sequence[Compared]
) -> list[tuple[str, Markup]]:
    """Title and <svg> of every chart with a result."""
    if not charts.have_matplotlib():
        return []
    readouts = list(dict.fromkeys(entry.readout for entry in table))
    drawn = [
        *(
            (f"{task}, {formats.readout(readout)}", charts.efficiency(table, task, readout))
            for task in tasks
            for readout in readouts
        ),
        *(
            (f"{task}, true against shuffled tags", charts.true_against_shuffled(compared, task))
            for task in tasks
        ),
    ]
    return [(title.capitalize(), Markup(svg)) for title, svg in drawn if svg]


def _matrix(numbers: exhibits.Numbers) -> dict:
    """The columns, and for each arm a number or None per column."""
    columns = list(dict.fromkeys(name for of_arm in numbers.values() for name in of_arm))
    rows = [(arm, [of_arm.get(c) for c in columns]) for arm, of_arm in numbers.items()]
    return {"columns": columns, "rows": rows}


def _render(template: str, content: dict) -> str:
    names = ("number", "signed", "p_value", "amount", "readout", "interval", "markdown", "latex")
    names += ("span",)
    functions = {"signed": formats.signed, "plus_minus": formats.plus_minus}
    filters = {name: getattr(formats, name) for name in names}
    return fill(f"study/{template}", functions | content, filters)
