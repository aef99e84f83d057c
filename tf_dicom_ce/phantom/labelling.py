"""Tags as a clinic writes them: mostly right, some missing, empty, untidy or wrong."""

import dataclasses

import numpy as np

#: Share of the files with each fault of (0008,1030) Study Description; the rest is as it should be.
STUDY_FAULTS = {"missing": 0.03, "empty": 0.04, "untidy": 0.04, "wrong": 0.03, "vague": 0.03}
#: The same of (0018,5010) Transducer Data.
PROBE_FAULTS = {"missing": 0.03, "empty": 0.03, "unused": 0.02, "untidy": 0.03, "wrong": 0.02}
#: Share of the files whose (0018,5010) is padded to several values; not a fault.
PADDED = 0.3
VAGUE = "US GUIDED PROCEDURE"


@dataclasses.dataclass(frozen=True)
class RawTags:
    """What stands in the file.

    Attributes:
        study: (0008,1030) Study Description, or None where the element is missing.
        probe: Values of (0018,5010) Transducer Data, or None where the element is missing.
        study_fault: Key of `STUDY_FAULTS`, or "".
        probe_fault: Key of `PROBE_FAULTS`, or "".
    """

    study: str | None
    probe: tuple[str, ...] | None
    study_fault: str
    probe_fault: str


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
    study_fault, probe_fault = _draw(rng, STUDY_FAULTS), _draw(rng, PROBE_FAULTS)
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


def _draw(rng: np.random.Generator, rates: dict[str, float]) -> str:
    names = [*rates, ""]
    shares = [*rates.values(), 1 - sum(rates.values())]
    return str(rng.choice(names, p=shares))
