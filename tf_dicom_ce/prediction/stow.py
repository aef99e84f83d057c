"""Results to a PACS by STOW-RS, each once."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydicom.filereader import read_file_meta_info
from rich.console import Console
from rich.progress import Progress

from tf_dicom_ce.dicom.quiet import muted
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.dicomweb_server import (
    Credentials,
    GoneError,
    RefusedError,
    Server,
    checked_address,
    travels_unencrypted,
    value,
)
from tf_dicom_ce.prediction.folder import Journal

_BATCH_FILES, _BATCH_BYTES = 8, 8 << 20
_FAILED_INSTANCES, _INSTANCE = "00081198", "00081155"


class Stored(NamedTuple):
    """What the server has."""

    instances: int  # results that are stored, by earlier calls too
    sent: int  # how many of them by this call
    refused: int  # results that the server would not take


def check_target(url: str) -> None:
    """Looks at the address before any work is done for it.

    Raises:
        UserError: It is none, or results and credentials could be read on their way.
    """
    checked_address(url)
    if travels_unencrypted(url):
        raise UserError(
            f"--stow {url}: results and credentials would travel unencrypted. Give an https "
            "address, or one of this machine that a tunnel or proxy encrypts."
        )


def store(
    url: str, credentials: Credentials, folder: Path, files: Sequence[str], progress: bool = True
) -> Stored:
    """Sends what has not been sent to this address before.

    A kill costs at most one batch that is sent again; its instances have the same UIDs, so the
    server has them once.

    Args:
        url: Address of the DICOMweb service.
        credentials: For the service.
        folder: Holds the files; `stored.csv` in it keeps what was taken.
        files: DICOM files, relative to the folder.
        progress: Shows a bar on standard error.

    Raises:
        UserError: The service cannot be used, or takes nothing.
    """
    check_target(url)
    with Server(url, credentials) as server, muted("urllib3"):
        journal = Journal(folder / "stored.csv", ("url", "file", "uid"))
        # By UID: a result that was made anew of more or fewer frames is another one.
        taken = {row["uid"] for row in journal.rows if row["url"] == server.url}
        uids = {file: _uid(folder / file) for file in files}
        missing = [file for file in files if uids[file] not in taken]
        before, sent, reasons = len(files) - len(missing), 0, set()
        with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
            task = bar.add_task("Storing", total=len(files), completed=before)
            for batch in _batches(folder, missing):
                refused = _send(server, folder, batch)
                good = [file for file in batch if file not in refused]
                journal.add(
                    *({"url": server.url, "file": file, "uid": uids[file]} for file in good)
                )
                sent += len(good)
                reasons |= set(refused.values())
                bar.advance(task, len(batch))
    if missing and not sent:
        raise UserError(
            f"{server.url} took none of the {len(missing)} results ({', '.join(sorted(reasons))}); "
            "check that it accepts SEG and SR, and start again to send them."
        )
    return Stored(before + sent, sent, len(missing) - sent)


def _batches(folder: Path, files: Sequence[str]) -> Iterator[list[str]]:
    """Groups files that are sent at once: few, and of bounded size unless one alone is larger."""
    batch, size = [], 0
    for file in files:
        own = (folder / file).stat().st_size
        if batch and (len(batch) == _BATCH_FILES or size + own > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += own
    if batch:
        yield batch


def _send(server: Server, folder: Path, batch: Sequence[str]) -> dict[str, str]:
    """Sends some files in one request; returns those that were refused, and why."""
    boundary = secrets.token_hex(16)
    content = b"".join(
        b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n"
        % (boundary.encode(), (folder / file).read_bytes())
        for file in batch
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    try:
        rows = server.send("/studies", content + b"--%b--\r\n" % boundary.encode(), kind)
    except GoneError as error:
        raise UserError(
            f"{server.url} takes no results ({error}); give the address of a DICOMweb service "
            "with STOW-RS, e.g. https://host/dicom-web"
        ) from None
    except RefusedError as error:
        if len(batch) == 1:
            return {batch[0]: str(error)}
        # One of them may spoil the others, or together they are too large.
        return {file: why for one in batch for file, why in _send(server, folder, [one]).items()}
    uids = {_uid(folder / file): file for file in batch}
    failed = (item for row in rows for item in row.get(_FAILED_INSTANCES, {}).get("Value", []))
    return {
        uids[uid]: "refused by the server"
        for item in failed
        if (uid := value(item, _INSTANCE)) in uids
    }


def _uid(path: Path) -> str:
    return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
