"""Whole cohorts of synthetic patients: rendered in processes, resumable, the same for one seed."""

import csv
import functools
import importlib.resources
import json
import shutil
from pathlib import Path

import numpy as np
import platformdirs
from rich.console import Console
from rich.progress import Progress

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.phantom.contact_sheet import contact_sheet
from tf_dicom_ce.phantom.examination import Order, render
from tf_dicom_ce.phantom.vendors import VENDOR_A, VENDOR_B
from tf_dicom_ce.whole_files import replacing, write_json
from tf_dicom_ce.workers import Outage, guarded_map

_VERSION = 2  # raise when the same seed gives other files

#: Preset -> stage -> split -> (images, patients). `paper` is Table 1, Appendices A.2.1 and A.2.2.
PRESETS = {
    "quick": {
        "pretraining": {"": (600, 80)},
        "classification": {"train": (300, 100), "validation": (60, 20), "test": (120, 40)},
        "segmentation": {"train": (100, 100), "validation": (25, 25), "test": (50, 50)},
    },
    "paper": {
        "pretraining": {"": (12267, 1188)},
        "classification": {"train": (2548, 800), "validation": (343, 100), "test": (335, 100)},
        "segmentation": {"train": (391, 391), "validation": (100, 100), "test": (100, 100)},
    },
}
_TABLES = {
    "classification": ("path", "label", "patient", "split"),
    "segmentation": ("path", "mask", "patient", "split"),
}
_TRUTH = (
    *("path", "patient", "split", "scene", "study", "probe", "study_fault", "probe_fault"),
    *("displacement", "score", "label", "mask"),
)


def make_cohort(
    out: Path,
    preset: str = "quick",
    seed: int = 0,
    workers: int | None = None,
    domain_shift: bool = True,
) -> Path:
    """Renders a cohort, or what is missing of it.

    The folder receives `pretraining/`, `classification/` and `segmentation/` with one folder a
    patient; `classification.csv` and `segmentation.csv` (labels, relative to `out`; masks are
    indexed PNGs of the DICOM's Rows × Columns, 1 liver, 2 kidney); `truth.csv`, kept apart from
    the files; `contact_sheet.png`, to look at; and last `cohort.json`, whose presence says that
    the cohort is whole.

    Args:
        out: Folder of the cohort.
        preset: Key of `PRESETS`.
        seed: 0 or more; same seed, same bytes, whatever the number of workers.
        workers: Processes; by default one a core.
        domain_shift: Downstream images come from another vendor than the pretraining images.

    Returns:
        `out`.

    Raises:
        UserError: The folder holds something else or another cohort, or cannot be made; or a
            negative number.
    """
    for option, number in (("seed", seed), ("workers", workers or 0)):
        if number < 0:
            raise UserError(f"--{option} {number}: a negative number makes no cohort.")
    cohort = {
        "what": "SYNTHETIC ultrasound phantom, not clinical data",
        "preset": preset,
        "seed": seed,
        "domain_shift": domain_shift,
        "version": _VERSION,
    }
    started, finished = out / "started.json", out / "cohort.json"
    for marker in (finished, started):
        if marker.is_file() and _read_json(marker) != cohort:
            raise UserError(f"--out {out}: holds another cohort. Choose another folder.")
    if finished.is_file():
        return out
    if out.is_dir() and any(out.iterdir()) and not started.is_file():
        raise UserError(f"--out {out}: the folder is not empty. Choose another one.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(started, cohort)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({type(error).__name__}).") from None
    _render_all(_orders(preset, seed, domain_shift), out, workers)
    _write_tables(out)
    shutil.rmtree(out / "unfinished", ignore_errors=True)
    write_json(finished, cohort)
    started.unlink()
    return out


def default_cohort(preset: str = "quick") -> Path:
    """The cohort of a preset at seed 0 in the user's cache folder, made where it is not there.

    Args:
        preset: Of a training: `quick`; `paper` and `full` have the paper's size.
    """
    preset = "quick" if preset == "quick" else "paper"
    cache = platformdirs.user_cache_path("tf-dicom-ce")
    return make_cohort(cache / "phantom" / f"{preset}-v{_VERSION}", preset)


def study_descriptions() -> tuple[str, ...]:
    """The values of Study Description (0008,1030) that Appendix A.1 knows."""
    file = importlib.resources.files("tf_dicom_ce.dicom") / "study_descriptions.csv"
    with file.open(newline="") as lines:
        return tuple(row["value"] for row in csv.DictReader(lines))


def _orders(preset: str, seed: int, domain_shift: bool) -> list[Order]:
    descriptions = study_descriptions()
    orders = []
    for stage, splits in PRESETS[preset].items():
        vendor = VENDOR_B if domain_shift and stage != "pretraining" else VENDOR_A
        rng = np.random.default_rng([seed, len(stage)])
        number = 0
        for split, (images, patients) in splits.items():
            extra = rng.multinomial(images - patients, np.full(patients, 1 / patients))
            for count in 1 + extra:
                number += 1
                orders.append(
                    Order(stage, number, int(count), split, seed, vendor.name, descriptions)
                )
    return orders


def _render_all(orders: list[Order], out: Path, workers: int | None) -> None:
    one = functools.partial(render, out=out)
    rendered = (
        map(one, orders) if workers == 1 else guarded_map(one, orders, _stop, workers, 600, 1)
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Rendering the phantom", total=sum(order.images for order in orders))
        for order, _ in zip(orders, rendered, strict=True):
            bar.advance(task, order.images)


def _stop(why: Outage) -> None:
    raise UserError(f"Rendering the phantom: {why.value}. Start again to go on where it stopped.")


def _write_tables(out: Path) -> None:
    rows = [
        row
        for path in sorted((out / "truth").glob("*/*.json"))
        for row in json.loads(path.read_text())
    ]
    _write_csv(out / "truth.csv", _TRUTH, rows)
    contact_sheet(out, rows).save(out / "contact_sheet.png")
    for stage, columns in _TABLES.items():
        chosen = [row for row in rows if row["path"].startswith(f"{stage}/")]
        _write_csv(out / f"{stage}.csv", columns, chosen)


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    with replacing(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except ValueError:  # not of this program
        return None
