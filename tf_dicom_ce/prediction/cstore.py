"""Sends results to an application entity by C-STORE."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from tf_dicom_ce.intake.dimse_peer import SUCCESS, BrokenError, Kind, Line, Peer

# Warnings (PS3.4 B.2.3): it is stored, but elements were coerced or dropped, or do not fit its
# class. The last status (PS3.7 C.5.5): it was stored before.
_STORED = (SUCCESS, 0xB000, 0xB006, 0xB007, 0x0111)


def send(peer: Peer, folder: Path, batch: Sequence[str]) -> dict[str, str]:
    """Sends files over one association; returns refused files, and why."""
    metas = [read_file_meta_info(folder / file) for file in batch]
    pairs = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    kind = Kind("C-STORE of SEG and SR", "have it accept them", tuple(sorted(pairs)))
    refused: dict[str, str] = {}

    def store(line: Line) -> None:
        accepted = {
            (one.abstract_syntax, one.transfer_syntax[0])
            for one in line.association.accepted_contexts
        }
        for file, meta in zip(batch, metas, strict=True):
            if (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) not in accepted:
                refused[file] = "SOP class not accepted"
                continue
            status = line.association.send_c_store(folder / file)
            if "Status" not in status:
                raise BrokenError("association broken off")
            if status.Status not in _STORED:
                refused[file] = f"status {status.Status:04X}H"

    peer.ask(kind, store)
    return refused
