"""What a download asks of an archive, by whichever protocol it is spoken to."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

#: Hosts that are this machine, so that nobody listens on the way.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RefusedError(Exception):
    """The archive answers, but does not give this one thing; says why without naming it."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status  # of HTTP


class GoneError(RefusedError):
    """There is no such thing, or no longer."""


class Level(NamedTuple):
    """What is searched for, as PS3.4 C.6 has it; all are elements by their keywords."""

    name: str  # (0008,0052) Query/Retrieve Level
    key: str  # tells its entities apart
    told: tuple[str, ...]  # what else is asked to be told


LEVELS = (
    Level("STUDY", "StudyInstanceUID", ("NumberOfStudyRelatedInstances", "StudyDescription")),
    Level("SERIES", "SeriesInstanceUID", ("Modality",)),
    Level("IMAGE", "SOPInstanceUID", ("SOPClassUID",)),
)


class Instance(NamedTuple):
    """An instance by its identifiers."""

    study: str
    series: str
    uid: str
    sop_class: str  # "" where the archive does not tell it


class Archive(Protocol):
    """An archive, for several threads."""

    url: str

    def find(
        self, above: tuple[str, ...], filters: Mapping[str, str]
    ) -> dict[str, Mapping[str, str]]:
        """Searches one level: studies, or below UIDs of a study, or of a study and a series.

        Returns:
            By UID what `Level.told` names, "" where the archive does not tell it.

        Raises:
            GoneError: There is nothing at this place.
            UserError: The archive is no use.
        """

    def save(self, instance: Instance, file: Path) -> None:
        """Fetches an instance as the archive stores it; half of it if this fails.

        Raises:
            RefusedError: The archive does not give it.
            UserError: The archive is no use.
        """
