"""Receives what machines push by C-STORE, as files of a folder."""

import contextlib
import secrets
import shutil
import signal
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_dicom_ce.dicom.quiet import muted, quiet
from tf_dicom_ce.errors import UserError, missing
from tf_dicom_ce.intake.archive import LOOPBACK
from tf_dicom_ce.intake.dimse_peer import MISMATCH, OUT_OF_RESOURCES, SUCCESS
from tf_dicom_ce.intake.instance_files import alone, file_of, holds, name_of, writing
from tf_dicom_ce.whole_files import sync_folder

if TYPE_CHECKING:
    from pynetdicom.events import Event

_SPARE = 1 << 28  # bytes of the disk to leave free


def receive(folder: Path, host: str, port: int, title: str, callers: Collection[str]) -> None:
    """Receives instances into a folder, until SIGTERM or Ctrl-C.

    It answers "success" once a file is complete and on the disk; a machine pushes an instance again
    without this answer. A known instance is replaced. Every storage SOP class and transfer syntax
    is accepted, because some machines send no images until their reports are accepted.

    Args:
        folder: Folder to write to; it is made if missing. Files are named by a digest of
            (0008,0018) SOP Instance UID.
        host: Address to listen at.
        port: Port to listen at; 0 for any free one.
        title: Our AE title, which machines have to call.
        callers: AE titles that may push; empty for any, allowed only if `host` is this machine.

    Raises:
        UserError: The folder or the address cannot be used, or another process receives there.
        KeyboardInterrupt: After Ctrl-C.
    """
    if not callers and host not in LOOPBACK:
        raise UserError(
            f"--host {host}: other machines can reach it. Give the AE titles that may push "
            "(--from)."
        )
    try:
        from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
    except ModuleNotFoundError as error:
        raise missing(error.name, "pacs") from None
    entity = AE(title)
    entity.require_called_aet, entity.require_calling_aet = True, list(callers)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO, to test the setup of a machine
    inbox = _Inbox(folder)
    handlers = [
        (evt.EVT_C_STORE, inbox.keep),
        (evt.EVT_REJECTED, _tell_rejection),
        # Not EVT_CONN_CLOSE: another thread triggers it while the last instance is being written
        (evt.EVT_RELEASED, inbox.tell),
        (evt.EVT_ABORTED, inbox.tell),
    ]
    busy = f"{folder}: another process receives there. Choose another folder, or stop it."
    with _open(folder, busy), muted("pynetdicom"), quiet():
        try:
            server = entity.start_server((host, port), block=False, evt_handlers=handlers)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--host {host} --port {port}: {getattr(error, 'strerror', None) or error}. Choose "
                "another port (0 for any that is free), or an address of this machine."
            ) from None
        try:
            port = server.socket.getsockname()[1]
            print(f"Receiving into {folder} at {title}@{host}:{port}. Ctrl-C stops.", flush=True)
            _wait_for_the_end()
        finally:
            entity.shutdown()


class _Inbox:
    """Writes instances, and prints how many came: never more about them."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        self._counts: dict[Any, int] = {}
        self._is_full = False

    def keep(self, event: "Event") -> int:
        """Handles a C-STORE; returns its status."""
        uid, content = str(event.request.AffectedSOPInstanceUID), event.encoded_dataset()
        file = file_of(self._folder, name_of(uid))
        part = file.with_suffix(f".{secrets.token_hex(8)}.part")
        try:
            if shutil.disk_usage(self._folder).free < len(content) + _SPARE:
                raise OSError(0, "less than 256 MiB are free")
            file.parent.mkdir(mode=0o700, exist_ok=True)
            with writing(part) as output:
                output.write(content)
            if not holds(part, uid):
                return MISMATCH
            part.replace(file)
            sync_folder(file.parent)
        except OSError as error:
            self._tell_full(error.strerror)
            return OUT_OF_RESOURCES
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        with self._lock:
            self._counts[event.assoc] = self._counts.get(event.assoc, 0) + 1
            self._is_full = False
        return SUCCESS

    def tell(self, event: "Event") -> None:
        """Prints, once, how many instances came by an association that ends."""
        with self._lock:
            number = self._counts.pop(event.assoc, 0)
        if number:
            how = "" if event.event.name == "EVT_RELEASED" else "; the association broke off"
            print(f"{number} instances from {event.assoc.requestor.ae_title!r}{how}", flush=True)

    def _tell_full(self, reason: str) -> None:
        with self._lock:
            is_known, self._is_full = self._is_full, True
        if not is_known:
            print(
                f"{self._folder} cannot be written to ({reason}): instances are refused (A700H) "
                "until there is room.",
                flush=True,
            )


def _tell_rejection(event: "Event") -> None:
    given = event.assoc.acceptor.primitive
    print(
        f"Refused an association from {event.assoc.requestor.ae_title!r} to "
        f"{event.assoc.requestor.primitive.called_ae_title!r}: {given.reason_str.lower()}",
        flush=True,
    )


@contextlib.contextmanager
def _open(folder: Path, busy: str) -> Iterator[None]:
    try:
        with alone(folder, busy):
            yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}). Choose a folder that you can write."
        ) from None


def _wait_for_the_end() -> None:
    """Waits for SIGTERM, which must not end the process in the middle of a file."""
    end = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: end.set())
    try:
        end.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
