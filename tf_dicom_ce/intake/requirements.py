"""What there has to be before a training starts."""

import sys
from collections.abc import Mapping
from types import MappingProxyType

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import Index

_HARDLY_ANY = 0.05  # of the images
_REMEDY = (
    "`tf-dicom-ce index` shows the values that were found. Map them (--tags, docs/tags.md), "
    "bring tags by a CSV (--labels), or train without them: --no-use-dicom."
)
_NONE: Mapping[int, Refusal] = MappingProxyType({})


def require_readable(index: Index, undecodable: Mapping[int, Refusal] = _NONE) -> None:
    """Insists that at least half of the ultrasound files can be read.

    Args:
        index: The index.
        undecodable: As in `write_coverage`.

    Raises:
        UserError: Fewer can; the message counts the others by code and gives the remedies.
    """
    coverage = index.coverage.with_decode_refusals(undecodable.values())
    readable = len(index.rows) - len(undecodable)
    if coverage.unreadable <= readable:
        return
    total = readable + coverage.unreadable
    lines = [f"{coverage.unreadable} of {total} images cannot be read:"]
    for code, count in coverage.refusals.items():
        if not code.is_skip:
            lines.append(f"  {count} {code.value}: {code.remedy}")
    lines.append("coverage.md names them. Mend them, or go on without them: --allow-unreadable")
    raise UserError("\n".join(lines))


def require_tags(known: Mapping[str, float]) -> None:
    """Insists that there is something to learn from tags.

    Args:
        known: Tag to the share of images of which it is known, 0 to 1.

    Raises:
        UserError: No tag is known of any image.
    """
    if not any(known.values()):
        raise UserError(f"No image has a tag that the schema knows. {_REMEDY}")


def warn_of_rare_tags(known: Mapping[str, float]) -> None:
    """Says on standard error of which tags there is hardly anything to learn."""
    for name, share in known.items():
        if share < _HARDLY_ANY:
            print(
                f"WARNING: the tag {name} is known of {100 * share:.1f} % of the images only: "
                f"there is hardly anything to learn from it. {_REMEDY}",
                file=sys.stderr,
            )
