"""What an audit found, as numbers, and as lines without any raw value or path."""

import dataclasses
from collections.abc import Iterator

from tf_dicom_ce.auditing.finding import Finding
from tf_dicom_ce.auditing.slips import Estimate


@dataclasses.dataclass(frozen=True)
class TagAudit:
    """What was found of one tag."""

    tag: str
    groups: tuple[str, ...]  # those that were judged
    files: tuple[int, ...]  # with each group, and with any
    of_files: Estimate  # how many of these contradict their study
    of_studies: Estimate  # how many are of studies whose pictures contradict them
    slips: dict[str, float]  # T and ε, see `slips.Slips`
    contradicted: int  # files whose value is likelier wrong than right
    contradicted_studies: int
    contradicted_patients: int
    unknown: int  # files whose value means nothing, or that have none
    rare: dict[str, int]  # group of too few patients to be judged -> their number
    warnings: tuple[str, ...]  # groups of one device alone


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found; `findings` go by tag, the likeliest to be wrong first."""

    tags: tuple[TagAudit, ...]
    findings: tuple[Finding, ...]


def summary(audited: Audit) -> str:
    """A few lines a tag."""
    return "\n\n".join("\n".join(_of_tag(found)) for found in audited.tags)


def _of_tag(found: TagAudit) -> Iterator[str]:
    yield (
        f"{found.tag}: {found.contradicted} of {found.files[-1]} files likelier wrong than right, "
        f"of {found.contradicted_studies} studies and {found.contradicted_patients} patients; "
        f"{found.unknown} files without a value"
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
