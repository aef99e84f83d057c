"""The finding of an audit on one tag of one file."""

import dataclasses

from tf_dicom_ce.tags.tag_table import AUDIT_COLUMNS

#: A value counts as contradicted if its probability to be wrong is higher than this.
CONTRADICTED = 0.5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One tag of one file."""

    row: int  # number of the file in the index
    path: str
    tag: str
    value: str  # as in the file; "" if there is none
    group: str | None  # the labels of the value, as "liver, abdomen"; None if nothing is known
    proposed: str  # the commonest value of the likeliest group; "" if that is the file's group
    proposed_group: str
    wrong: float | None  # probability that the value is wrong, 0 to 1; None without a group
    right: float  # probability of the likeliest group, 0 to 1
    unit: int  # number of the files that are judged together

    def line(self) -> dict[str, str]:
        """The line of a table with `AUDIT_COLUMNS`."""
        cells = (self.value, self.proposed, _share(self.wrong), _share(self.right), f"{self.unit}")
        return dict(zip(AUDIT_COLUMNS, (self.path, self.tag, *cells, ""), strict=True))


def _share(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.4f}"
