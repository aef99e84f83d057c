"""What an audit says of one tag of one file."""

import dataclasses

from tf_dicom_ce.tags.tag_table import AUDIT_COLUMNS

#: A value is contradicted that is likelier wrong than this.
CONTRADICTED = 0.5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One tag of one file."""

    row: int  # number of the file in the index
    path: str
    tag: str
    value: str  # as it stands in the file; "" where nothing does
    group: str | None  # the labels that it means, as "liver, abdomen"; None: nothing is known
    proposed: str  # the archive's commonest value of the likeliest group; "": that is its own
    proposed_group: str
    wrong: float | None  # probability that the value is, 0 to 1; None where it means nothing
    right: float  # probability of the likeliest group, 0 to 1
    unit: int  # number of the files that were judged together

    def line(self) -> dict[str, str]:
        """What stands of it in a table of `AUDIT_COLUMNS`."""
        cells = (self.value, self.proposed, _share(self.wrong), _share(self.right), f"{self.unit}")
        return dict(zip(AUDIT_COLUMNS, (self.path, self.tag, *cells, ""), strict=True))


def _share(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.4f}"
