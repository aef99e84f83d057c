"""Searches an archive by C-FIND, and fetches from it by C-GET (DIMSE)."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom import Dataset, uid

from tf_dicom_ce.dicom.decoders import FRAGMENTED_VIDEO, SUPPORTED
from tf_dicom_ce.dicom.header import ULTRASOUND
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.archive import LEVELS, Instance, RefusedError
from tf_dicom_ce.intake.dimse_peer import SUCCESS, BrokenError, Kind, Line, Peer

# Study Root Query/Retrieve Information Model, PS3.4 C.6.2.
_FIND, _GET = (uid.UID(f"1.2.840.10008.5.1.4.1.2.2.{n}") for n in (1, 3))
_EXPLICIT = uid.ExplicitVRLittleEndian
# Some archives, such as dcmqrscp, send all of a SOP class in the first one.
_SYNTAXES = (_EXPLICIT, *sorted(SUPPORTED - {_EXPLICIT} - FRAGMENTED_VIDEO))
_PENDING = (0xFF00, 0xFF01)  # PS3.4 C.4.1.1.4
_PUSH = "have it push to `tf-dicom-ce receive DIR`, and give DIR in place of the address"
_SEARCH = Kind("C-FIND by study root", _PUSH, ((_FIND, uid.ImplicitVRLittleEndian),))


class Dimse:
    """An `Archive` that is an application entity."""

    def __init__(self, peer: Peer):
        self._peer, self.url = peer, peer.url

    def find(
        self, above: tuple[str, ...], filters: Mapping[str, str]
    ) -> dict[str, Mapping[str, str]]:
        """Searches by C-FIND, see `Archive.find`; returns nothing if `above` does not exist."""
        level = LEVELS[len(above)]
        keys = _keys(len(above), above)
        for keyword in (level.key, *level.told):
            setattr(keys, keyword, "")
        for keyword, wanted in filters.items():
            setattr(keys, keyword, wanted)

        def search(line: Line) -> dict[str, Mapping[str, str]]:
            rows = {}
            for status, row in line.association.send_c_find(keys, _FIND):
                code = _code(status)
                if code in _PENDING:
                    key = str(row.get(level.key) or "")
                    rows[key] = {k: str(row.get(k) or "") for k in level.told}
                elif code != SUCCESS:
                    raise UserError(f"{self.url} refused a search (status {code:04X}H)")
            rows.pop("", None)
            return rows

        return self._peer.ask(_SEARCH, search)

    def save(self, instance: Instance, file: Path) -> None:
        """Fetches an instance by C-GET, its data set byte for byte, see `Archive.save`."""
        keys = _keys(2, instance[:3])

        def get(line: Line) -> None:
            accepted = {one.abstract_syntax for one in line.association.accepted_contexts}
            if _GET not in accepted:
                raise UserError(f"{self.url} offers no C-GET; {_PUSH}")
            if accepted == {_GET}:
                raise RefusedError("SOP class not offered")
            expected = line.expected
            expected.uid, expected.file, expected.error = instance.uid, file, None
            file.unlink(missing_ok=True)
            for status, _ in line.association.send_c_get(keys, _GET):
                code = _code(status)
            if expected.error:
                raise expected.error
            if code != SUCCESS or not file.exists():
                raise RefusedError(f"status {code:04X}H")

        self._peer.ask(_fetching(instance.sop_class), get)


@contextlib.contextmanager
def connect(url: str) -> Iterator[Dimse]:
    """Opens the archive at `dicom://AET@HOST:PORT`; UserError if the address is wrong."""
    with Peer(url) as peer:
        yield Dimse(peer)


def _keys(level: int, uids: tuple[str, ...]) -> Dataset:
    """Makes the identifier of a request at a level, with the given UIDs."""
    keys = Dataset()
    keys.QueryRetrieveLevel = LEVELS[level].name
    for above, one in zip(LEVELS, uids, strict=False):
        setattr(keys, above.key, one)
    return keys


def _code(status: Dataset) -> int:
    """Returns the status of a response; BrokenError if the association broke off."""
    if "Status" not in status:
        raise BrokenError("association broken off")
    return status.Status


@functools.cache
def _fetching(sop_class: str) -> Kind:
    """Offers each transfer syntax in its own context, so that no archive has to convert."""
    classes = (sop_class,) if sop_class else tuple(sorted(ULTRASOUND))
    pairs = ((one, syntax) for one in classes for syntax in _SYNTAXES)
    contexts = ((_GET, uid.ImplicitVRLittleEndian), *pairs)
    return Kind("C-GET by study root", _PUSH, contexts, classes)
