"""One patient from anatomy to files: rendered whole or not at all."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tf_dicom_ce.phantom import dicom_file, quality, scenes, studies, vendors
from tf_dicom_ce.phantom.acoustics import simulate
from tf_dicom_ce.phantom.geometry import Probe
from tf_dicom_ce.phantom.tissues import KIDNEY, Tissue
from tf_dicom_ce.phantom.vendors import VENDOR_A, VENDOR_B, Vendor

_LIVER = (Tissue.LIVER, Tissue.BLOOD, Tissue.VESSEL_WALL)  # the organ with its vessels
_CINE = 0.03  # share of pretraining files that are short cines
_CINE_FRAMES = 5
_RUQ = ("right upper quadrant", "right upper quadrant with fluid")


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be rendered of one patient.

    Attributes:
        stage: `pretraining`, `classification` or `segmentation`.
        number: Number of the patient in the stage.
        images: Number of files.
        split: `train`, `validation`, `test`, or "" in pretraining.
        seed: Of the cohort.
        vendor: Name of the vendor.
        descriptions: All study descriptions of Appendix A.1.
    """

    stage: str
    number: int
    images: int
    split: str
    seed: int
    vendor: str
    descriptions: tuple[str, ...]

    @property
    def patient(self) -> str:
        """(0010,0020) Patient ID, unique over all stages."""
        return f"SYN-{self.stage[0].upper()}{self.number:05d}"


def render(order: Order, out: Path) -> None:
    """Renders a patient below `out`, unless it is there.

    The truth goes to `truth/<stage>/<patient>.json`, apart from the files.

    Args:
        order: What to render.
        out: Folder of the cohort.
    """
    folder = out / order.stage / order.patient
    if folder.is_dir():
        return
    beside = out / "unfinished" / f"{order.patient}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    stage = ("pretraining", "classification", "segmentation").index(order.stage)
    rng = np.random.default_rng([order.seed, stage, order.number])
    vendor = {VENDOR_A.name: VENDOR_A, VENDOR_B.name: VENDOR_B}[order.vendor]
    rows = _render_files(order, vendor, rng, beside)
    truth = out / "truth" / order.stage / f"{order.patient}.json"
    truth.parent.mkdir(parents=True, exist_ok=True)
    truth.write_text(json.dumps(rows, indent=1) + "\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside.replace(folder)


def _render_files(order: Order, vendor: Vendor, rng: np.random.Generator, folder: Path) -> list:
    # Downstream, only the right upper quadrant is examined.
    allowed = scenes.SCENES if order.stage == "pretraining" else _RUQ
    plans = {name: studies.study(name) for name in order.descriptions}
    shares = {
        name: {scene: share for scene, share in plan.scenes.items() if scene in allowed}
        for name, plan in plans.items()
    }
    description = _choose(
        rng, {name: plans[name].weight * sum(shares[name].values()) for name in plans}
    )
    plan = plans[description]
    scene = scenes.SCENES[_choose(rng, shares[description])]
    patient = scene.make_patient(rng)
    probe_name = _choose(rng, scene.probes)
    depth = rng.uniform(0.78, 1.22)
    probe = vendor.probes[probe_name]
    probe = dataclasses.replace(probe, depth=probe.depth * float(depth))
    rows = []
    for instance in range(1, order.images + 1):
        displacement = {
            "pretraining": lambda: rng.beta(1, 4) * 0.6,
            "classification": lambda: quality.sample_displacement(rng),
            "segmentation": lambda: rng.uniform(0, 0.2),
        }[order.stage]()
        device = None
        if order.stage == "pretraining" and rng.uniform() < studies.DEVICE_SHOWN:
            device = plan.device
        view = scene.make_view(patient, rng, float(displacement), device)
        cine = order.stage == "pretraining" and rng.uniform() < _CINE
        frames, labels, judged = _picture(vendor, probe, view, rng, _CINE_FRAMES if cine else 1)
        tags = studies.write_tags(
            rng, description, probe_name, list(order.descriptions), list(vendor.probes)
        )
        syntaxes = list(dicom_file.ENCODINGS)
        syntax, rgb = syntaxes[rng.choice(len(syntaxes), p=list(dicom_file.ENCODINGS.values()))]
        converter = vendors.converter(vendor.name, probe)
        region = vendors.LAYOUTS[vendor.name].region
        name = f"{instance:03d}" + ("" if rng.uniform() < 0.3 else ".dcm")
        dicom_file.write(
            dicom_file.Picture(
                frames, region, converter.spacing, order.seed, vendor.name, order.patient, instance,
                tags, syntax, rgb,
            ),
            folder / name,
        )  # fmt: skip
        row = {
            "path": f"{order.stage}/{order.patient}/{name}",
            "patient": order.patient,
            "split": order.split,
            "scene": scene.name,
            "study": description,
            "probe": probe_name,
            "study_fault": tags.study_fault,
            "probe_fault": tags.probe_fault,
            "displacement": round(float(displacement), 4),
        }
        if order.stage == "classification":
            row |= {"score": round(judged.score, 4), "label": judged.label(rng)}
        if order.stage == "segmentation":
            Image.fromarray(_mask(labels, region)).save(folder / f"{instance:03d}_mask.png")
            row["mask"] = f"{order.stage}/{order.patient}/{instance:03d}_mask.png"
        rows.append(row)
    return rows


def _choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    shares = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=shares / shares.sum()))


def _picture(vendor: Vendor, probe: Probe, view, rng: np.random.Generator, count: int):
    """Screens uint8 [count, rows, columns], the region's labels and the view's quality."""
    converter = vendors.converter(vendor.name, probe)
    gain = float(rng.normal(0, 3))
    screen_seed = rng.integers(2**31)
    frames = []
    for k in range(count):
        # In a cine the probe glides slowly out of the plane.
        origin = view.pose.origin + np.array([0.3, 0.8, 0.0]) * k
        moved = dataclasses.replace(view, pose=dataclasses.replace(view.pose, origin=origin))
        polar = moved.labels(probe)
        simulation = simulate(polar, probe, vendor, rng, gain)
        sector = np.rint(converter.image(simulation.image.astype(np.float32))).astype(np.uint8)
        frames.append(vendors.compose(vendor.name, sector, np.random.default_rng(screen_seed)))
    labels = converter.labels(polar)
    shadow = converter.image(simulation.shadow_db)
    judged = quality.assess(labels, shadow, sector, converter.spacing)
    return np.stack(frames), labels, judged


def _mask(labels: np.ndarray, region: tuple[int, int, int, int]) -> np.ndarray:
    """Liver 1 and kidney 2 on the whole screen, uint8 [rows, columns]."""
    mask = np.zeros((vendors.HEIGHT, vendors.WIDTH), np.uint8)
    left, top, right, bottom = region
    mask[top:bottom, left:right][np.isin(labels, _LIVER)] = 1
    mask[top:bottom, left:right][np.isin(labels, KIDNEY)] = 2
    return mask
