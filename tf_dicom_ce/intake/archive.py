"""What a download needs of an archive (a PACS), independent of its protocol."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from tf_dicom_ce.errors import UserError

#: Names of this machine: nobody can listen on the way to it.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Attempts before a request counts as failed.
ATTEMPTS = 5


class RefusedError(Exception):
    """The archive answers, but refuses one thing; the message says why, without naming it."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status  # HTTP status


class GoneError(RefusedError):
    """The thing does not exist, or no longer."""


def failed(url: str, failure: str) -> UserError:
    """The error for an archive after all attempts; `failure` is the last one."""
    return UserError(
        f"{url} failed {ATTEMPTS} times in a row ({failure}); check the address and the network. "
        "The same command continues where this one stopped."
    )


class Level(NamedTuple):
    """A level of a search (PS3.4 C.6); elements are given by keyword."""

    name: str  # (0008,0052) Query/Retrieve Level
    key: str  # the UID of its entities
    told: tuple[str, ...]  # elements that the answer should have, too


LEVELS = (
    Level("STUDY", "StudyInstanceUID", ("NumberOfStudyRelatedInstances", "StudyDescription")),
    Level("SERIES", "SeriesInstanceUID", ("Modality",)),
    Level("IMAGE", "SOPInstanceUID", ("SOPClassUID",)),
)


class Instance(NamedTuple):
    """The identifiers of an instance."""

    study: str
    series: str
    uid: str
    sop_class: str  # "" if the archive does not tell it


class Archive(Protocol):
    """An archive; several threads may use it."""

    url: str

    def find(
        self, above: tuple[str, ...], filters: Mapping[str, str]
    ) -> dict[str, Mapping[str, str]]:
        """Searches one level: all studies, the series of a study, or the instances of a series.

        Args:
            above: UIDs of the study and series to search in.
            filters: Keyword to the value that has to match.

        Returns:
            UID to the elements of `Level.told`, "" if the archive does not tell one.

        Raises:
            GoneError: `above` does not exist.
            UserError: The archive cannot be used.
        """

    def save(self, instance: Instance, file: Path) -> None:
        """Fetches an instance as the archive stores it; the file is incomplete if this fails.

        Raises:
            RefusedError: The archive does not give it.
            UserError: The archive cannot be used.
        """
