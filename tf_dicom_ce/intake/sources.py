"""Turns a source (a folder, a zip or tar, or a PACS) into a folder of files."""

import lzma
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import dicomweb, dimse
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.dicomweb_server import Credentials, travels_unencrypted
from tf_dicom_ce.intake.download import download
from tf_dicom_ce.intake.query import Query
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.progress import Bar
from tf_dicom_ce.user_folders import cache_folder
from tf_dicom_ce.whole_files import making

_BLOCK = 1 << 20
_SPARE = 1 << 30  # bytes of the disk to leave free
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError),
    *(lzma.LZMAError, RuntimeError, NotImplementedError, ValueError),
)


def open_source(source: str, query: Query) -> Path:
    """Returns the folder of a source's files.

    A zip or tar is unpacked, and the query's instances of a PACS are downloaded, into a folder in
    the user's cache. Only this user can read it; it can be deleted at any time.

    Raises:
        UserError: The source does not exist, cannot be used, or has nothing of the query.
    """
    if not source.strip():
        raise UserError(f"'{source}' is no source. Give a folder, a zip or tar, or a URL.")
    if not is_address(source):
        path = Path(source)
        if not path.is_file():
            return path
        if not is_archive(path):
            raise UserError(f"{path} is neither a folder of DICOM files, nor a zip or tar of them.")
        return unpack(path, unpacked_folder())
    if travels_unencrypted(source):
        print(
            f"{source}: images and credentials travel unencrypted. Prefer an https address.",
            file=sys.stderr,
        )
    # A folder per query: files of an earlier, wider query must not count.
    name = pseudonym(load_secret(), "query", str(query))
    folder = download_folder(source) / name
    if source.startswith("dicom://"):
        connected = dimse.connect(source)
    else:
        connected = dicomweb.connect(source, Credentials.from_environment())
    with connected as archive:
        found = download(archive, query, folder)
    print(
        f"PACS: {found.instances} instances, {found.fetched} of them fetched now"
        + (f", {found.skipped} refused by the server" if found.skipped else "")
    )
    return folder


def is_address(source: str) -> bool:
    """Tells whether a source is the address of a PACS."""
    return source.startswith(("http://", "https://", "dicom://"))


def download_folder(url: str) -> Path:
    """Returns the folder of all downloads from a PACS: a folder and a journal per query."""
    return cache_folder() / "pacs" / pseudonym(load_secret(), "PACS", url.rstrip("/"))


def unpacked_folder() -> Path:
    """Returns the folder of unpacked archives: a folder each, by content."""
    return cache_folder() / "unpacked"


def unpacked_name(content: str) -> str:
    """Returns the name of an archive's folder, by the digest of its content."""
    return pseudonym(load_secret(), "archive", content)


def is_archive(path: Path) -> bool:
    """Tells by the content whether a file is a zip or tar, compressed or not."""
    try:
        return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))
    except (OSError, *_DAMAGED):
        return False


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks a zip or tar once, into its own private folder below `folder`; returns it.

    A second call finds it, even if the archive was moved. Only regular files are unpacked, under
    names that cannot leave the folder. Bytes are counted as they come, so an archive that lies
    about its size cannot fill the disk. Archives within the archive are not unpacked.

    Raises:
        UserError: The archive is damaged, encrypted, or larger than the disk.
    """
    (content,) = digests(archive.parent, [archive.name], source=archive).values()
    if not content:
        raise UserError(f"{archive} cannot be read. Give one that you can read.")
    target = folder / unpacked_name(content)
    if target.is_dir():
        return target
    try:
        with making(target) as beside:
            _unpack(archive, beside, shutil.disk_usage(folder).free - _SPARE)
    except (OSError, *_DAMAGED) as error:
        # Errors of the operating system have numbers, those of gzip and bzip2 do not.
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{archive}: {error.strerror}. Give one that you can read.") from None
        raise UserError(
            f"{archive}: damaged or encrypted ({type(error).__name__}); pack or copy it again."
        ) from None
    return target


def _unpack(archive: Path, folder: Path, budget: int) -> None:
    with (
        Bar() as bar,
        bar.open(archive, "rb", description="Unpacking") as packed,
    ):
        for number, (name, member) in enumerate(_members(packed)):
            target = _place(folder, name, number)
            target.parent.mkdir(parents=True, exist_ok=True)
            with member, target.open("xb") as file:
                while block := member.read(_BLOCK):
                    budget -= len(block)
                    if budget < 0:
                        raise UserError(
                            f"{archive}: too large when unpacked for the disk of {folder.parent}. "
                            "Free some space, or set XDG_CACHE_HOME to another disk."
                        )
                    file.write(block)


def _members(packed: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Yields names and contents of the regular files."""
    if zipfile.is_zipfile(packed):
        with zipfile.ZipFile(packed) as files:
            for info in files.infolist():
                # The upper half of a Unix entry's attributes is its mode.
                is_link = info.external_attr >> 16 & 0o170000 == 0o120000
                if not info.is_dir() and not is_link:
                    yield info.filename, files.open(info)
        return
    packed.seek(0)
    with tarfile.open(fileobj=packed, mode="r:*") as files:
        for info in files:
            if info.isreg():
                yield info.name, files.extractfile(info)
        while files.fileobj.read(_BLOCK):  # read to the end, where the checksum is
            pass


def _place(folder: Path, name: str, number: int) -> Path:
    """Returns a free path for a member, inside `folder`."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    target = folder.joinpath(*parts)
    fits = parts and all(len(part.encode(errors="surrogateescape")) < 256 for part in parts)
    free = fits and not target.exists() and not any(above.is_file() for above in target.parents)
    return target if free else folder / f"member-{number}"
