"""The query for an archive: which instances to download."""

import calendar
import contextlib
import dataclasses
import datetime
import fnmatch
import re
from collections.abc import Iterator

from tf_dicom_ce.errors import UserError


@dataclasses.dataclass(frozen=True)
class Query:
    """A query; UserError if modality or dates are malformed."""

    modality: str = "US"  # (0008,0060) Modality
    # Range of (0008,0020) Study Date, e.g. "20240101-20241231", "20240101-" or "20240101"; empty
    # for all.
    dates: str = ""
    # Part of (0008,1030) Study Description, in any case; or a shell pattern for the whole of it,
    # e.g. "*thyroid*"; empty for all.
    description: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Z0-9_]{1,16}", self.modality):
            raise UserError(f'modality "{self.modality}" is not a DICOM modality; give e.g. "US"')
        if self.dates and not _is_range(self.dates):
            raise UserError(
                f'dates "{self.dates}" are not a range of days; give e.g. "20240101-20241231", '
                '"20240101-" or "-20241231"'
            )

    @property
    def asked(self) -> str:
        """Modality and dates in words."""
        return f"of modality {self.modality}" + (f" and dates {self.dates}" if self.dates else "")

    def describes(self, description: str) -> bool:
        """Tells whether a (0008,1030) Study Description matches."""
        pattern = self.description.lower()
        if not re.search(r"[*?[]", pattern):
            return pattern in description.lower()
        return fnmatch.fnmatchcase(description.lower(), pattern)

    def months(self) -> Iterator[str]:
        """Yields the dates month by month, to keep answers below a server's limit."""
        first, _, last = self.dates.partition("-")
        if not (first and last):
            yield self.dates
            return
        while first[:6] < last[:6]:
            year, month = int(first[:4]), int(first[4:6])
            yield f"{first}-{first[:6]}{calendar.monthrange(year, month)[1]}"
            first = f"{year + month // 12:04d}{month % 12 + 1:02d}01"
        yield f"{first}-{last}"


def _is_range(dates: str) -> bool:
    """Tells whether this is a day, or a range of days; one end may be open."""
    if not re.fullmatch(r"[0-9]{8}(-([0-9]{8})?)?|-[0-9]{8}", dates):
        return False
    with contextlib.suppress(ValueError):
        days = [datetime.datetime.strptime(d, "%Y%m%d") for d in dates.strip("-").split("-")]
        return days == sorted(days)
    return False
