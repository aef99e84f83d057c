"""The result of an audit as numbers, and as lines without raw values or paths."""

import dataclasses
from collections.abc import Iterator

from tf_dicom_ce.auditing.finding import Finding
from tf_dicom_ce.auditing.slips import Estimate


@dataclasses.dataclass(frozen=True)
class TagAudit:
    """The result for one tag."""

    tag: str
    groups: tuple[str, ...]  # the judged groups
    files: tuple[int, ...]  # with each group, and with any
    of_files: Estimate  # number of files that contradict their study
    of_studies: Estimate  # number of files of studies that their pictures contradict
    slips: dict[str, float]  # T and ε, see `slips.Slips`
    contradicted: int  # files whose value is more likely wrong than right
    contradicted_studies: int
    contradicted_patients: int
    unknown: int  # files without a value, or with one that is not mapped
    rare: dict[str, int]  # group with too few patients -> number of its patients
    warnings: tuple[str, ...]  # groups from one device


@dataclasses.dataclass(frozen=True)
class Audit:
    """The result of an audit; `findings` go by tag, the likeliest to be wrong first."""

    tags: tuple[TagAudit, ...]
    findings: tuple[Finding, ...]


def summary(audited: Audit) -> str:
    """A few lines per tag."""
    return "\n\n".join("\n".join(_of_tag(found)) for found in audited.tags)


def _of_tag(found: TagAudit) -> Iterator[str]:
    yield (
        f"{found.tag}: {found.contradicted} of {found.files[-1]} files more likely wrong than "
        f"right, of {found.contradicted_studies} studies and {found.contradicted_patients} "
        f"patients; {found.unknown} files without a value"
    )
    for k, name in enumerate((*found.groups, "all")):
        told = [
            f"{of.mean[k]:.0f} ({of.low[k]:.0f} to {of.high[k]:.0f}) {what}"
            for of, what in (
                (found.of_files, "contradict their study"),
                (found.of_studies, "their pictures"),
            )
            if of.high[-1]
        ]
        yield f"  {name}: {found.files[k]} files" + (f", about {', '.join(told)}" if told else "")
    if found.rare:
        groups = ", ".join(f"{name} ({n})" for name, n in found.rare.items())
        yield f"  not judged, for lack of patients: {groups}"
    yield from (f"  WARNING: {sentence}" for sentence in found.warnings)
