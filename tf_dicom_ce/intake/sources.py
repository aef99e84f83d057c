"""What a user may give as data, to a folder of files: a folder, an archive, or a PACS."""

import sys
from pathlib import Path

import platformdirs

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import archive, dicomweb
from tf_dicom_ce.intake.dicomweb_server import travels_unencrypted
from tf_dicom_ce.intake.secret import load_secret, pseudonym


def open_source(source: str, query: dicomweb.Query) -> Path:
    """Brings the files of a source to this machine where they are not.

    Args:
        source: A folder, a zip or tar, or the URL of a DICOMweb service.
        query: What to ask a PACS for.

    Returns:
        The folder of the files. Of an archive or a PACS it is one in the user's cache folder,
        readable for this user alone; it can be deleted at any time.

    Raises:
        UserError: No such thing; or the PACS does not give what was asked for.
    """
    cache = platformdirs.user_cache_path("tf-dicom-ce")
    if not source.startswith(("http://", "https://")):
        path = Path(source)
        if not path.is_file():
            return path
        if not archive.is_archive(path):
            raise UserError(f"{path} is neither a folder of DICOM files, nor a zip or tar of them.")
        return archive.unpack(path, cache / "unpacked")
    if travels_unencrypted(source):
        print(
            f"{source}: images and credentials travel unencrypted; better https.", file=sys.stderr
        )
    # A folder for each query: an earlier, wider one must not add to this one.
    folder = cache / "pacs" / pseudonym(load_secret(), "PACS", f"{source.rstrip('/')}|{query}")
    found = dicomweb.download(source, query, dicomweb.Credentials.from_environment(), folder)
    print(
        f"PACS: {found.instances} instances, {found.fetched} of them fetched now"
        + (f", {found.skipped} refused by the server" if found.skipped else "")
    )
    return folder
