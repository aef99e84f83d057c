"""Sends results to a PACS, each once, by STOW-RS or C-STORE."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tf_dicom_ce.dicom.quiet import muted
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import dimse_peer
from tf_dicom_ce.intake.dicomweb_server import (
    Credentials,
    Server,
    checked_address,
    travels_unencrypted,
)
from tf_dicom_ce.prediction import cstore, stow
from tf_dicom_ce.prediction.folder import Journal, result_uid
from tf_dicom_ce.progress import Bar

_BATCH_FILES, _BATCH_BYTES = 8, 8 << 20
#: Sends some files of a folder; returns refused files, and why.
Send = Callable[[Path, Sequence[str]], dict[str, str]]


class Stored(NamedTuple):
    """Numbers of results at the server."""

    instances: int  # results that are stored, including those of earlier calls
    sent: int  # how many of them this call sent
    refused: int  # results that the server refused


def check_target(url: str) -> None:
    """Checks the address before the work begins.

    Raises:
        UserError: It is malformed, or http, so that others could read results and credentials.
    """
    if url.startswith("dicom://"):
        dimse_peer.checked_address(url)
        if travels_unencrypted(url):
            print(f"{url}: results travel unencrypted. Prefer an https address.", file=sys.stderr)
        return
    checked_address(url)
    if travels_unencrypted(url):
        raise UserError(
            f"--send {url}: results and credentials would travel unencrypted. Give an https "
            "address, or the local end of an encrypted tunnel or proxy."
        )


def store(
    url: str, credentials: Credentials, folder: Path, files: Sequence[str], progress: bool = True
) -> Stored:
    """Sends files that were not sent to this address before.

    After a kill, at most one batch is sent again; its instances have the same UIDs, so the server
    keeps them once.

    Args:
        url: Address of a DICOMweb service, or dicom://AET@HOST:PORT.
        credentials: Credentials for a DICOMweb service.
        folder: Folder of the files; its `stored.csv` lists those that the server has.
        files: DICOM files, relative to the folder.
        progress: Shows a bar on standard error.

    Raises:
        UserError: The service cannot be used, or refuses all files.
    """
    with _connected(url, credentials) as send:
        url = url.rstrip("/")
        journal = Journal(folder / "stored.csv", ("url", "file", "uid"))
        # By UID, because a result that was made anew of other frames is another one.
        taken = {row["uid"] for row in journal.rows if row["url"] == url}
        uids = {file: result_uid(folder / file) for file in files}
        missing = [file for file in files if uids[file] not in taken]
        before, sent, reasons = len(files) - len(missing), 0, set()
        with Bar(progress) as bar:
            task = bar.add_task("Storing", total=len(files), completed=before)
            for batch in _batches(folder, missing):
                refused = send(folder, batch)
                good = [file for file in batch if file not in refused]
                journal.add(*({"url": url, "file": file, "uid": uids[file]} for file in good))
                sent += len(good)
                reasons |= set(refused.values())
                bar.advance(task, len(batch))
    if missing and not sent:
        raise UserError(
            f"{url} took none of the {len(missing)} results ({', '.join(sorted(reasons))}); "
            "check that it accepts SEG and SR, and repeat the command."
        )
    return Stored(before + sent, sent, len(missing) - sent)


@contextlib.contextmanager
def _connected(url: str, credentials: Credentials) -> Iterator[Send]:
    """Yields a function that sends to an address."""
    check_target(url)
    if url.startswith("dicom://"):
        with dimse_peer.Peer(url) as peer:
            yield functools.partial(cstore.send, peer)
    else:
        with Server(url, credentials) as server, muted("urllib3"):
            yield functools.partial(stow.send, server)


def _batches(folder: Path, files: Sequence[str]) -> Iterator[list[str]]:
    """Groups files into batches of limited number and size; a larger file is sent alone."""
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
