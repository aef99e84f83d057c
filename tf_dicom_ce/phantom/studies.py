"""The scenes and devices of a study, and its tags as a clinic writes them.

Groups share scenes as in the clinic: a liver biopsy and a kidney biopsy both show the right upper
quadrant, a paracentesis shows ascites or the liver's edge. So neither anatomy nor study determines
the other.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_FLUID = "right upper quadrant with fluid"
_RUQ = {"right upper quadrant": 0.85, _FLUID: 0.15}
_LITTLE_RUQ = {name: 0.15 * share for name, share in _RUQ.items()}
_ABDOMEN = {"right upper quadrant": 0.3, "bowel": 0.3, "ascites": 0.4}
_DRAINED = {"collection": 0.6, "ascites": 0.2, "soft tissue": 0.2}

#: Pattern, scenes with weights, device, weight of the description; the first match wins.
_RULES = (
    ("BIOPSY LIVER", {**_RUQ, "ascites": 0.08, "effusion": 0.05, "lung": 0.04}, "needle", 10),
    ("DRAINAGE LIVER", {**_RUQ, "collection": 0.1}, "catheter", 1),
    ("BIOPSY (TRANSPLANTED )?KIDNEY", {**_RUQ, "bowel": 0.12}, "needle", 5),
    ("KIDNEY/PARARENAL", {**_RUQ, "collection": 0.15}, "catheter", 1),
    ("GALLBLADDER", _RUQ, "catheter", 1),
    ("PARACENTESIS", {"ascites": 0.65, _FLUID: 0.27, "effusion": 0.08}, "catheter", 5),
    ("THORACENTESIS", {"effusion": 0.65, "lung": 0.2, **_LITTLE_RUQ}, "catheter", 3),
    ("CHEST TUBE", {"lung": 0.45, "effusion": 0.4, "soft tissue": 0.15}, "catheter", 2),
    ("THYROID", {"thyroid nodule": 0.75, "thyroid": 0.25}, "needle", 9),
    ("LYMPH NODE", {"neck node": 0.4, "lymph node": 0.5, "thyroid": 0.1}, "needle", 4),
    ("NECK", {"neck node": 0.4, "soft tissue mass": 0.3, "thyroid nodule": 0.3}, "needle", 2),
    ("PSEUDOANEURYSM", {"collection": 0.6, "soft tissue": 0.4}, "needle", 0.5),
    ("SOFT TISSUE BIOPSY", {"soft tissue mass": 0.7, "soft tissue": 0.3}, "needle", 3),
    ("SOFT TISSUE ASPIRATION", {"collection": 0.8, "soft tissue": 0.2}, "needle", 1),
    ("ABDOMINAL PELVIC BIOPSY", {**_ABDOMEN, "soft tissue mass": 0.2}, "needle", 1),
    ("BIOPSY (MESENTERY|RETROPERITONEUM)", _ABDOMEN, "needle", 1),
    ("BIOPSY NOT", {"soft tissue mass": 0.5, "lymph node": 0.3, "bowel": 0.2}, "needle", 1),
    ("(ABDOM|PELVIS)", {**_ABDOMEN, "collection": 0.1}, "catheter", 1.5),
    ("DRAINAGE (INTERVENTION|CATHETER)", _DRAINED, "catheter", 1.5),
)
#: Share of the images of a study in which the device is in the plane.
DEVICE_SHOWN = 0.25
#: Share of the files with each fault of (0008,1030) Study Description; the others are correct.
STUDY_FAULTS = {"missing": 0.03, "empty": 0.04, "untidy": 0.04, "wrong": 0.03, "vague": 0.03}
#: The same for (0018,5010) Transducer Data.
PROBE_FAULTS = {"missing": 0.03, "empty": 0.03, "unused": 0.02, "untidy": 0.03, "wrong": 0.02}
#: Share of the files whose (0018,5010) is padded to several values; not a fault.
PADDED = 0.3
VAGUE = "US GUIDED PROCEDURE"


class Study(NamedTuple):
    """The content of a study with one description."""

    scenes: dict[str, float]  # scene -> share, sum 1
    device: str  # `needle` or `catheter`
    weight: float  # relative frequency of the description


def study(description: str) -> Study:
    """The study of a description of Appendix A.1.

    Raises:
        KeyError: No rule knows the description.
    """
    for pattern, scenes, device, weight in _RULES:
        if re.search(pattern, description):
            total = sum(scenes.values())
            shares = {name: share / total for name, share in scenes.items()}
            return Study(shares, device, weight)
    raise KeyError(description)


class RawTags(NamedTuple):
    """The elements of the file; None if an element is missing."""

    study: str | None  # (0008,1030) Study Description
    probe: tuple[str, ...] | None  # values of (0018,5010) Transducer Data
    study_fault: str = ""  # key of `STUDY_FAULTS`, or ""
    probe_fault: str = ""  # key of `PROBE_FAULTS`, or ""


def write_tags(
    rng: np.random.Generator, study: str, probe: str, studies: list[str], probes: list[str]
) -> RawTags:
    """Writes the tags of one file, with faults.

    Args:
        rng: Source of the faults.
        study: The true description.
        probe: The true probe.
        studies: All descriptions, for a wrong one.
        probes: All probes, for a wrong one.
    """
    study_fault, probe_fault = _fault(rng, STUDY_FAULTS), _fault(rng, PROBE_FAULTS)
    other_study = str(rng.choice([name for name in studies if name != study]))
    other_probe = str(rng.choice([name for name in probes if name != probe]))
    text = {
        "missing": None,
        "empty": "",
        "untidy": "  " + study.lower().replace(" ", "  ", 1),
        "wrong": other_study,
        "vague": VAGUE,
    }.get(study_fault, study)
    padding = ("UNUSED", "UNUSED") if rng.uniform() < PADDED else ()
    values = {
        "missing": None,
        "empty": ("",),
        "unused": ("UNUSED", "UNUSED"),
        "untidy": (f" {probe.lower()}", *padding),
        "wrong": (other_probe, *padding),
    }.get(probe_fault, (probe, *padding))
    return RawTags(text, values, study_fault, probe_fault)


def choose(rng: np.random.Generator, weights: Mapping[Any, float]) -> Any:
    """Draws one of the keys, with probabilities proportional to the weights."""
    shares = np.array(list(weights.values()))
    return list(weights)[rng.choice(len(shares), p=shares / shares.sum())]


def _fault(rng: np.random.Generator, rates: dict[str, float]) -> str:
    return choose(rng, {**rates, "": 1 - sum(rates.values())})
