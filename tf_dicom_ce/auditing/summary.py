"""An audit in lines for the terminal, without any raw value or path."""

from collections.abc import Iterator

from tf_dicom_ce.auditing.audit import Audit, TagAudit


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
