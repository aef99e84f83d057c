"""Sends results to a DICOMweb service by STOW-RS."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.archive import GoneError, RefusedError
from tf_dicom_ce.intake.dicomweb_server import Server, value
from tf_dicom_ce.prediction.folder import result_uid

_STORED, _FAILED, _INSTANCE, _REASON = "00081199", "00081198", "00081155", "00081197"
# (0008,1197) Failure Reason of an instance stored before: 0111H (PS3.7 C.5.5), B00EH (Azure).
_ALREADY_STORED = {"273", "45070"}


def send(server: Server, folder: Path, batch: Sequence[str]) -> dict[str, str]:
    """Sends files in one request; returns refused files, and why."""
    boundary = secrets.token_hex(16)
    content = b"".join(
        b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n"
        % (boundary.encode(), (folder / file).read_bytes())
        for file in batch
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    told: dict[str, str] = {}
    try:
        status, rows = server.send("/studies", content + b"--%b--\r\n" % boundary.encode(), kind)
    except GoneError as error:
        raise UserError(
            f"{server.url} takes no results ({error}); give the address of a DICOMweb service "
            "with STOW-RS, e.g. https://host/dicom-web"
        ) from None
    except RefusedError as error:
        refusal = str(error)
    else:
        told, refusal = _outcomes(folder, batch, rows), "HTTP 409" if status == 409 else ""
    refused = {file: why for file, why in told.items() if why}
    left = [file for file in batch if file not in told] if refusal else []
    if len(batch) == 1:
        return refused | dict.fromkeys(left, refusal)
    # One file may spoil the batch, or the batch is too large: send each file alone.
    for one in left:
        refused |= send(server, folder, [one])
    return refused


def _outcomes(folder: Path, batch: Sequence[str], rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Returns each file that the server names, and why it refused it; "" if it has it."""
    told = {}
    for row in rows:
        for item in _items(row, _STORED):
            told[value(item, _INSTANCE)] = ""
        for item in _items(row, _FAILED):
            reason = value(item, _REASON)
            is_there = reason in _ALREADY_STORED
            why = f"Failure Reason {int(reason):04X}H" if reason.isdigit() else "no reason given"
            told[value(item, _INSTANCE)] = "" if is_there else why
    uids = {file: result_uid(folder / file) for file in batch}
    return {file: told[uid] for file, uid in uids.items() if uid in told}


def _items(row: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """Returns the items of a sequence in DICOM JSON."""
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values or [] if isinstance(item, dict)]
