"""Files of instances that came over a network: their names, and whether they are what they say."""

import hashlib
from pathlib import Path

from tf_dicom_ce.dicom import part10
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Refusal


def name_of(uid: str) -> str:
    """A digest of (0008,0018) SOP Instance UID: no identifier stands in a path, which is printed.

    It has 64 hex digits.
    """
    return hashlib.sha256(uid.encode()).hexdigest()


def file_of(folder: Path, name: str) -> Path:
    """Where an instance of this name lies."""
    return folder / name[:2] / f"{name[2:]}.dcm"


def holds(path: Path, uid: str) -> bool:
    """Tells whether a file is a DICOM file (PS3.10) of this SOP Instance UID."""
    with quiet():
        file = part10.open_regular(path)
        if isinstance(file, Refusal):
            return False
        with file:
            opened = part10.parse(file)
            if isinstance(opened, Refusal):
                return False
            header, meta = opened.header, opened.header.file_meta
            said = (header.get("SOPInstanceUID"), meta.get("MediaStorageSOPInstanceUID"))
            return bool(header.preamble) and uid in said
