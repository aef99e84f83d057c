"""Searches and fetches from an archive by DICOMweb."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from pydicom.datadict import tag_for_keyword

from tf_dicom_ce.dicom.quiet import muted
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.archive import LEVELS, GoneError, Instance
from tf_dicom_ce.intake.dicomweb_server import Credentials, Server, value

_PATHS = ("studies", "series", "instances")


class DicomWeb:
    """An `Archive` with a DICOMweb service."""

    def __init__(self, server: Server):
        self._server, self.url = server, server.url

    def find(
        self, above: tuple[str, ...], filters: Mapping[str, str]
    ) -> dict[str, Mapping[str, str]]:
        """Searches by QIDO-RS, see `Archive.find`."""
        level = LEVELS[len(above)]
        told = {keyword: _tag(keyword) for keyword in level.told}
        # For series and instances every server returns them unasked.
        fields = {} if above else {"includefield": list(told.values())}
        try:
            rows = self._server.search(_path(above), _tag(level.key), filters | fields)
        except GoneError as error:
            if above:
                raise
            raise UserError(
                f"{self.url} is no DICOMweb service ({error}); give the address above /studies, "
                "e.g. https://host/dicom-web"
            ) from None
        return {uid: {k: value(row, tag) for k, tag in told.items()} for uid, row in rows.items()}

    def save(self, instance: Instance, file: Path) -> None:
        """Fetches an instance by WADO-RS, byte for byte, see `Archive.save`."""
        self._server.save(_path(instance[:2]) + f"/{quote(instance.uid, safe='')}", file)


@contextlib.contextmanager
def connect(url: str, credentials: Credentials) -> Iterator[DicomWeb]:
    """Connects to a DICOMweb service; UserError if the address is wrong."""
    # The libraries' logs quote addresses, which hold identifiers.
    with muted("urllib3", "python_multipart"), Server(url, credentials) as server:
        yield DicomWeb(server)


def _path(above: tuple[str, ...]) -> str:
    """Returns the path of entities, e.g. "/studies/1.2/series"."""
    uids = (*(f"/{quote(uid, safe='')}" for uid in above), "")
    return "".join(f"/{name}{uid}" for name, uid in zip(_PATHS, uids, strict=False))


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"
