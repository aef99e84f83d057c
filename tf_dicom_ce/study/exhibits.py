"""Results of runs besides scores: pictures, losses, sensitivities, and their provenance."""

import base64
import collections
import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tf_dicom_ce.phantom.cohort import default_cohort, default_folder
from tf_dicom_ce.phantom.difficulty import write_difficulty
from tf_dicom_ce.study.formats import without_paths
from tf_dicom_ce.study.protocol import PLACES, READOUTS, Protocol
from tf_dicom_ce.study.runner import State, Study, read_json

_KIND = 1_500_000  # bytes of all pictures of one kind, before base64
_WIDTHS = (900, 700, 500, 350)  # pixels
_FINGERPRINTS = ("data_fingerprint", "labels_fingerprint", "split_fingerprint")

#: Arm -> name -> mean over the arm's pretrainings, and the number of these.
Numbers = dict[str, dict[str, tuple[float, int]]]


def panels(study: Study) -> dict[str, str]:
    """Arm -> the last inpainting panel of its first finished pretraining, JPEG, base64."""
    found: dict[str, Path] = {}
    for job, place in study.done("pretraining"):
        if pictures := sorted((place / "panels").glob("epoch_*.png")):
            found.setdefault(job.cell["arm"], pictures[-1])
    return _embed(found)


def overlays(study: Study) -> tuple[tuple[str, str, float] | None, dict[str, str]]:
    """Arm -> test segmentations of its first run, all under one condition, JPEG, base64.

    The condition, (task, readout, labels), has the last readout (a tuned encoder, if there is one)
    and the smallest amount of labels; None without a segmentation.
    """
    jobs = [job for job in study.jobs if job.cell.get("measure") == "Dice"]
    conditions = [tuple(job.cell[k] for k in ("task", "readout", "labels")) for job in jobs]
    condition = min(conditions, key=_overlay_order, default=None)
    found: dict[str, Path] = {}
    for job, its_condition in zip(jobs, conditions, strict=True):
        picture = study.place(job.name) / "segmentations.png"
        if its_condition == condition and picture.exists():
            found.setdefault(job.cell["arm"], picture)
    return condition, _embed(found)


def _overlay_order(condition: tuple[str, str, float]) -> tuple:
    _, readout, labels = condition
    return -READOUTS.index(readout), labels


def losses(study: Study) -> Numbers:
    """Arm -> validation measure -> mean over the arm's pretrainings, and the number of these."""
    return _means(study, lambda place: read_json(place / "result.json")["validation"])


def sensitivities(study: Study) -> Numbers:
    """Arm -> tag -> last value in `sentinel.csv`, mean over pretrainings, and their number."""
    found = _means(study, _last_sensitivities)
    return {arm: numbers for arm, numbers in found.items() if numbers}


def _last_sensitivities(place: Path) -> dict[str, float]:
    if not (path := place / "sentinel.csv").exists():
        return {}
    with path.open(newline="") as file:
        last = [{}, *csv.DictReader(file)][-1]
    mark = "sensitivity "
    return {k.removeprefix(mark): float(v) for k, v in last.items() if k.startswith(mark)}


def _means(study: Study, read: Callable[[Path], dict[str, float | None]]) -> Numbers:
    """Arm -> name -> mean over the pretrainings with a finite number, and how many these are."""
    found: dict[str, dict[str, list[float]]] = {}
    for job, place in study.done("pretraining"):
        of_arm = found.setdefault(job.cell["arm"], {})
        for name, value in read(place).items():
            if value is not None and math.isfinite(value):
                of_arm.setdefault(name, []).append(value)
    return {
        arm: {name: (float(np.mean(values)), len(values)) for name, values in of_arm.items()}
        for arm, of_arm in found.items()
    }


def failures(study: Study) -> list[tuple[str, str]]:
    """Name and last message, without paths, of every failed job."""
    return [
        (job.name, without_paths((study.place(job.name) / "failed.txt").read_text().strip()))
        for job in study.jobs
        if study.state(job) is State.FAILED
    ]


def provenance(study: Study) -> list[tuple[str, str]]:
    """The provenance of the numbers, as pairs of name and value, without paths."""
    rows = [
        ("arms", ", ".join(dict.fromkeys(job.cell["arm"] for job in study.jobs))),
        ("seeds", ", ".join(map(str, dict.fromkeys(job.cell["seed"] for job in study.jobs)))),
    ]
    for part, options in read_json(study.folder / "protocol.json").get("options", {}).items():
        shown = {k: v for k, v in options.items() if k not in PLACES}
        rows.append((f"protocol, {part}", _line(shown) or "defaults"))
    configs: dict[str, list[dict]] = {}
    for job, place in study.done():
        configs.setdefault(job.cell["task"], []).append(read_json(place / "config.json"))
    for task, of_task in configs.items():
        for name in (*_FINGERPRINTS, "synthetic_data", "schema", "images"):
            rows.append((f"{task}, {name.replace('_', ' ')}", _distinct(of_task, name)))
    everything = [config for of_task in configs.values() for config in of_task]
    rows.append(("environment", _distinct(everything, "environment")))
    return [row for row in (*rows, *_times(study)) if row[1]]


def render_phantom(protocol: Protocol) -> None:
    """Makes the phantom's cohorts of all jobs, before several jobs need them at once."""
    for cohort in map(default_cohort, sorted(_presets(protocol, "pretraining", *protocol.labels))):
        if not (cohort / "difficulty.md").exists():
            write_difficulty(cohort)


def difficulty(protocol: Protocol) -> str | None:
    """How hard the tasks are; None if they are not of one phantom, or nobody measured it."""
    presets = _presets(protocol, *protocol.labels)
    if len(presets) != 1 or any(protocol.options[task].get("data") for task in protocol.labels):
        return None
    table = default_folder(presets.pop()) / "difficulty.md"
    return table.read_text() if table.exists() else None


def _presets(protocol: Protocol, *parts: str) -> set[str]:
    """The phantom's presets in these tables, those without `data`."""
    tables = (protocol.options[part] for part in parts)
    return {table.get("preset") or "quick" for table in tables if not table.get("data")}


def _times(study: Study) -> list[tuple[str, str]]:
    """Start and end by file times: `config.json` is written at the start, `result.json` last."""
    spans = [
        [(place / name).stat().st_mtime for name in ("config.json", "result.json")]
        for _, place in study.done()
        if (place / "config.json").exists()
    ]
    if not spans:
        return []
    minutes = sum(max(0, end - start) for start, end in spans) / 60
    starts, ends = zip(*spans, strict=True)
    limits = (time.gmtime(t) for t in (min(starts), max(ends)))
    first, last = (time.strftime("%Y-%m-%d %H:%M", t) for t in limits)
    return [
        ("first start and last end, UTC", f"{first} to {last}"),
        ("time of all finished jobs", f"{minutes:.0f} min, each from its last start"),
    ]


def _distinct(configs: Sequence[dict], name: str) -> str:
    """All values of a setting, the commonest first, with numbers of runs if they differ."""
    values = (_line(config[name]) for config in configs if config.get(name) is not None)
    counts = collections.Counter(values)
    if len(counts) < 2:
        return "".join(counts)
    return "; ".join(f"{value} ({count} runs)" for value, count in counts.most_common())


def _line(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_line(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " ".join(map(_line, value))
    return without_paths(str(value))


def _embed(pictures: dict[str, Path]) -> dict[str, str]:
    """Shrinks pictures so that a page with two kinds of them stays below 5 MB."""
    embedded = {}
    for arm, path in pictures.items():
        with Image.open(path) as file:
            picture = file.convert("RGB")
        for width in _WIDTHS:
            small = picture.copy()
            small.thumbnail((width, 2 * width))
            content = io.BytesIO()
            small.save(content, "JPEG", quality=80)
            if content.tell() * len(pictures) < _KIND:
                break
        embedded[arm] = base64.b64encode(content.getvalue()).decode()
    return embedded
