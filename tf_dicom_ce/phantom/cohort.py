"""Renders whole cohorts of synthetic patients in processes: resumable, the same for one seed."""

import csv
import dataclasses
import functools
import importlib.resources
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.phantom import dicom_file, quality, scenes, studies, vendors
from tf_dicom_ce.phantom.acoustics import simulate
from tf_dicom_ce.phantom.contact_sheet import contact_sheet
from tf_dicom_ce.phantom.geometry import ScanConverter
from tf_dicom_ce.phantom.tissues import KIDNEY, Tissue
from tf_dicom_ce.phantom.vendors import VENDOR_A, VENDOR_B, Vendor
from tf_dicom_ce.progress import Bar
from tf_dicom_ce.user_folders import cache_folder
from tf_dicom_ce.whole_files import replacing, write_json
from tf_dicom_ce.workers import Outage, guarded_map

_VERSION = 2  # raise it when the same seed gives other files

#: Preset -> stage -> split -> (images, patients). `paper` is Table 1, Appendices A.2.1 and A.2.2.
PRESETS = {
    "quick": {
        "pretraining": {"": (600, 80)},
        "classification": {"train": (300, 100), "validation": (60, 20), "test": (120, 40)},
        "segmentation": {"train": (100, 100), "validation": (25, 25), "test": (50, 50)},
    },
    "standard": {
        "pretraining": {"": (2000, 260)},
        "classification": {"train": (600, 200), "validation": (90, 30), "test": (240, 80)},
        "segmentation": {"train": (200, 200), "validation": (30, 30), "test": (100, 100)},
        "recognition": {"train": (260, 260), "validation": (39, 39), "test": (260, 260)},
    },
    "paper": {
        "pretraining": {"": (12267, 1188)},
        "classification": {"train": (2548, 800), "validation": (343, 100), "test": (335, 100)},
        "segmentation": {"train": (391, 391), "validation": (100, 100), "test": (100, 100)},
    },
}
# Preset of a training -> preset of the cohort, if the names differ.
_COHORTS = {"full": "paper", "distilled": "quick"}
_STAGES = ("pretraining", "classification", "segmentation", "recognition")
_TABLES = {
    "classification": ("path", "label", "patient", "split"),
    "segmentation": ("path", "mask", "patient", "split"),
    "recognition": ("path", "label", "patient", "split"),
}
_TRUTH = (
    *("path", "patient", "split", "scene", "study", "probe", "study_fault", "probe_fault"),
    *("displacement", "score", "label", "mask"),
)
_LIVER = (Tissue.LIVER, Tissue.BLOOD, Tissue.VESSEL_WALL)  # the organ with its vessels
_CINE = 0.03  # share of pretraining files that are short cines
_CINE_FRAMES = 5
_RUQ = ("right upper quadrant", "right upper quadrant with fluid")


@dataclasses.dataclass(frozen=True)
class Order:
    """The files to render of one patient."""

    stage: str  # of `_STAGES`
    number: int  # of the patient in the stage
    images: int  # number of files
    split: str  # `train`, `validation`, `test`, or "" in pretraining
    seed: int  # of the cohort
    vendor: Vendor

    @property
    def patient(self) -> str:
        """(0010,0020) Patient ID, unique over all stages."""
        return f"SYN-{self.stage[0].upper()}{self.number:05d}"


def make_cohort(
    out: Path,
    preset: str = "quick",
    seed: int = 0,
    workers: int | None = None,
    domain_shift: bool = True,
) -> Path:
    """Renders a cohort, or its missing part, and returns its folder `out`.

    The folder receives `pretraining/` and a folder for every task, with one folder per patient.
    Every task has a table of labels, relative to `out`: `classification.csv` (quality, 0 to 4),
    `segmentation.csv` (masks, indexed PNGs of the DICOM's Rows × Columns, 1 liver, 2 kidney) and,
    with the preset `standard`, `recognition.csv` (the true scene). The folder also receives
    `truth.csv`, apart from the files, and `contact_sheet.png`, an overview. `cohort.json` is
    written last and marks the cohort as complete.

    Args:
        out: Folder of the cohort.
        preset: Key of `PRESETS`.
        seed: 0 or more; same seed, same bytes, whatever the number of workers.
        workers: Number of processes, by default one per core.
        domain_shift: Downstream images come from another vendor than the pretraining images.

    Raises:
        UserError: The folder holds other files or another cohort, or cannot be made; or a number is
            negative.
    """
    for option, number in (("seed", seed), ("workers", workers or 0)):
        if number < 0:
            raise UserError(f"--{option} {number}: choose 0 or more.")
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
    _write_tables(out, preset)
    shutil.rmtree(out / "unfinished", ignore_errors=True)
    write_json(finished, cohort)
    started.unlink()
    return out


def default_cohort(preset: str = "quick") -> Path:
    """The cohort of a preset with seed 0 in the user's cache folder; made at the first call.

    Args:
        preset: Preset of a training: `quick`, `distilled` or `standard`; `paper` and `full` have
            the paper's size.
    """
    return make_cohort(default_folder(preset), _COHORTS.get(preset, preset))


def default_folder(preset: str) -> Path:
    """The folder of `default_cohort`, whether it was made or not."""
    return cache_folder() / "phantom" / f"{_COHORTS.get(preset, preset)}-v{_VERSION}"


def tables(preset: str = "quick") -> tuple[str, ...]:
    """Names of the tables of labels of a preset's default cohort."""
    stages = PRESETS[_COHORTS.get(preset, preset)]
    return tuple(f"{stage}.csv" for stage in stages if stage in _TABLES)


@functools.cache
def _descriptions() -> tuple[str, ...]:
    """The values of Study Description (0008,1030) in Appendix A.1."""
    file = importlib.resources.files("tf_dicom_ce.tags") / "study_descriptions.csv"
    with file.open(newline="") as lines:
        return tuple(row["value"] for row in csv.DictReader(lines))


def _orders(preset: str, seed: int, domain_shift: bool) -> list[Order]:
    orders = []
    for stage, splits in PRESETS[preset].items():
        vendor = VENDOR_B if domain_shift and stage != "pretraining" else VENDOR_A
        rng = np.random.default_rng([seed, len(stage)])
        number = 0
        for split, (images, patients) in splits.items():
            extra = rng.multinomial(images - patients, np.full(patients, 1 / patients))
            for count in 1 + extra:
                number += 1
                orders.append(Order(stage, number, int(count), split, seed, vendor))
    return orders


def _render_all(orders: list[Order], out: Path, workers: int | None) -> None:
    one = functools.partial(render, out=out)
    rendered = (
        map(one, orders) if workers == 1 else guarded_map(one, orders, _stop, workers, 600, 1)
    )
    with Bar() as bar:
        task = bar.add_task("Rendering the phantom", total=sum(order.images for order in orders))
        for order, _ in zip(orders, rendered, strict=True):
            bar.advance(task, order.images)


def _stop(why: Outage) -> None:
    raise UserError(f"Rendering the phantom: {why.value}. Repeat the command to continue.")


def _write_tables(out: Path, preset: str) -> None:
    rows = [
        row
        for path in sorted((out / "truth").glob("*/*.json"))
        for row in json.loads(path.read_text())
    ]
    _write_csv(out / "truth.csv", _TRUTH, rows)
    contact_sheet(out, rows).save(out / "contact_sheet.png")
    for stage in PRESETS[preset].keys() & _TABLES.keys():
        chosen = [row for row in rows if row["path"].startswith(f"{stage}/")]
        _write_csv(out / f"{stage}.csv", _TABLES[stage], chosen)


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    with replacing(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except ValueError:  # not written by this program
        return None


def render(order: Order, out: Path) -> None:
    """Renders a patient below the cohort's folder `out`, unless the patient is there.

    The truth goes to `truth/<stage>/<patient>.json`, apart from the files.
    """
    folder = out / order.stage / order.patient
    if folder.is_dir():
        return
    beside = out / "unfinished" / f"{order.patient}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    rng = np.random.default_rng([order.seed, _STAGES.index(order.stage), order.number])
    rows = _render_files(order, rng, beside)
    truth = out / "truth" / order.stage / f"{order.patient}.json"
    truth.parent.mkdir(parents=True, exist_ok=True)
    truth.write_text(json.dumps(rows, indent=1) + "\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside.replace(folder)


def _render_files(order: Order, rng: np.random.Generator, folder: Path) -> list[dict]:
    """Renders a patient's files into a folder; rows of the truth table."""
    pretraining, vendor = order.stage == "pretraining", order.vendor
    # Downstream tasks show the right upper quadrant only; recognition shows all scenes equally.
    allowed = scenes.SCENES if pretraining else _RUQ
    if order.stage == "recognition":
        allowed = [list(scenes.SCENES)[order.number % len(scenes.SCENES)]]
    plans = {name: studies.study(name) for name in _descriptions()}
    shares = {
        name: {scene: share for scene, share in plan.scenes.items() if scene in allowed}
        for name, plan in plans.items()
    }
    description = studies.choose(
        rng, {name: plan.weight * sum(shares[name].values()) for name, plan in plans.items()}
    )
    scene_name = studies.choose(rng, shares[description])
    scene = scenes.SCENES[scene_name]
    patient = scene.make_patient(rng)
    probe_name = studies.choose(rng, scene.probes)
    probe = vendor.probes[probe_name]
    probe = dataclasses.replace(probe, depth=probe.depth * float(rng.uniform(0.78, 1.22)))
    converter = ScanConverter(probe, *vendor.size)
    rows = []
    for instance in range(1, order.images + 1):
        displacement = _displacement(order.stage, rng)
        shown = pretraining and rng.uniform() < studies.DEVICE_SHOWN
        device = plans[description].device if shown else None
        view = scene.make_view(patient, rng, displacement, device)
        count = _CINE_FRAMES if pretraining and rng.uniform() < _CINE else 1
        judge = order.stage == "classification"
        frames, labels, judged = _picture(vendor, converter, view, rng, count, judge)
        tags = studies.write_tags(
            rng, description, probe_name, list(_descriptions()), list(vendor.probes)
        )
        syntax, rgb = studies.choose(rng, dicom_file.ENCODINGS)
        name = f"{instance:03d}" + ("" if rng.uniform() < 0.3 else ".dcm")
        picture = dicom_file.Picture(
            frames=frames,
            region=vendor.region,
            spacing=converter.spacing,
            seed=order.seed,
            vendor=vendor.name,
            patient=order.patient,
            instance=instance,
            tags=tags,
            syntax=syntax,
            rgb=rgb,
        )
        dicom_file.write(picture, folder / name)
        place = f"{order.stage}/{order.patient}"
        row = {
            "path": f"{place}/{name}",
            "patient": order.patient,
            "split": order.split,
            "scene": scene_name,
            "study": description,
            "probe": probe_name,
            "study_fault": tags.study_fault,
            "probe_fault": tags.probe_fault,
            "displacement": round(displacement, 4),
        }
        if judged:
            row |= {"score": round(judged.score, 4), "label": judged.label(rng)}
        if order.stage == "recognition":
            row["label"] = scene_name
        if order.stage == "segmentation":
            mask = f"{instance:03d}_mask.png"
            Image.fromarray(_mask(labels, vendor)).save(folder / mask)
            row["mask"] = f"{place}/{mask}"
        rows.append(row)
    return rows


def _displacement(stage: str, rng: np.random.Generator) -> float:
    if stage == "classification":
        return quality.sample_displacement(rng)
    return float(rng.uniform(0, 0.2) if stage == "segmentation" else rng.beta(1, 4) * 0.6)


def _picture(
    vendor: Vendor,
    converter: ScanConverter,
    view: scenes.View,
    rng: np.random.Generator,
    count: int,
    judge: bool,
) -> tuple[np.ndarray, np.ndarray, quality.Quality | None]:
    """Screens uint8 [count, rows, columns], the region's labels and, to `judge`, the quality."""
    gain = float(rng.normal(0, 3))
    screen_seed = rng.integers(2**31)
    frames = []
    for k in range(count):
        # In a cine the probe glides slowly out of the plane.
        origin = view.pose.origin + np.array([0.3, 0.8, 0.0]) * k
        moved = dataclasses.replace(view, pose=dataclasses.replace(view.pose, origin=origin))
        polar = moved.labels(converter.probe)
        image, shadow = simulate(polar, converter.probe, vendor, rng, gain)
        sector = np.rint(converter.image(image.astype(np.float32))).astype(np.uint8)
        frames.append(vendors.compose(vendor, sector, np.random.default_rng(screen_seed)))
    labels, judged = converter.labels(polar), None
    if judge:
        judged = quality.assess(labels, converter.image(shadow), sector, converter.spacing)
    return np.stack(frames), labels, judged


def _mask(labels: np.ndarray, vendor: Vendor) -> np.ndarray:
    """Liver 1 and kidney 2 on the whole screen, uint8 [rows, columns]."""
    mask = np.zeros((vendors.HEIGHT, vendors.WIDTH), np.uint8)
    left, top, right, bottom = vendor.region
    region = mask[top:bottom, left:right]
    region[np.isin(labels, _LIVER)] = 1
    region[np.isin(labels, KIDNEY)] = 2
    return mask
