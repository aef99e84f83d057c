"""What a user may give as data, to a folder of files: a folder, an archive, or a PACS."""

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
_SPARE = 1 << 30  # bytes of the disk that are left alone
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError),
    *(lzma.LZMAError, RuntimeError, NotImplementedError, ValueError),
)


def open_source(source: str, query: Query) -> Path:
    """Brings the files of a source to this machine where they are not.

    Those of a zip or tar, or of what the query asks a PACS for, go to a folder in the
    user's cache, readable for this user alone. It can be deleted at any time. A UserError tells if
    there is no such thing, or the PACS does not give what was asked for.
    """
    if not source.strip():
        raise UserError(f"'{source}' names no source. Give a folder, a zip or tar, or a URL.")
    if not is_address(source):
        path = Path(source)
        if not path.is_file():
            return path
        if not is_archive(path):
            raise UserError(f"{path} is neither a folder of DICOM files, nor a zip or tar of them.")
        return unpack(path, unpacked_folder())
    if travels_unencrypted(source):
        print(
            f"{source}: images and credentials travel unencrypted; better https.", file=sys.stderr
        )
    # A folder for each query: an earlier, wider one must not add to this one.
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
    """Tells a PACS from a path."""
    return source.startswith(("http://", "https://", "dicom://"))


def download_folder(url: str) -> Path:
    """Where everything that was downloaded from a PACS lies: a folder and a journal a query."""
    return cache_folder() / "pacs" / pseudonym(load_secret(), "PACS", url.rstrip("/"))


def unpacked_folder() -> Path:
    """Where unpacked archives lie: a folder each, by content."""
    return cache_folder() / "unpacked"


def unpacked_name(content: str) -> str:
    """The name of the folder of an archive, by the digest of its content."""
    return pseudonym(load_secret(), "archive", content)


def is_archive(path: Path) -> bool:
    """True for a zip or tar, compressed or not, by its content."""
    try:
        return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))
    except (OSError, *_DAMAGED):
        return False


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks a zip or tar once, into a folder of its own below `folder`, for this user alone.

    A second call finds it unpacked, wherever the archive lies now. Only regular files are taken,
    under names that cannot leave the folder. The bytes are counted as they come, so that an archive
    that lies about its size fills no disk. Archives within the archive stay what they are. One that
    is damaged, encrypted, or larger than the disk gives a UserError.
    """
    (content,) = digests(archive.parent, [archive.name], source=archive).values()
    target = folder / unpacked_name(content)
    if target.is_dir():
        return target
    try:
        with making(target) as beside:
            _unpack(archive, beside, shutil.disk_usage(folder).free - _SPARE)
    except (OSError, *_DAMAGED) as error:
        # The operating system's errors have numbers, those of gzip and bzip2 have none.
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
    """Names and contents of the regular files."""
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
        while files.fileobj.read(_BLOCK):  # to the end, where the checksum is
            pass


def _place(folder: Path, name: str, number: int) -> Path:
    """Where a member goes: inside `folder`, and where nothing else is."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    target = folder.joinpath(*parts)
    fits = parts and all(len(part.encode(errors="surrogateescape")) < 256 for part in parts)
    free = fits and not target.exists() and not any(above.is_file() for above in target.parents)
    return target if free else folder / f"member-{number}"
