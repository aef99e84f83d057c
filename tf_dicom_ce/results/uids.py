"""UIDs of a source, and others for those that it lacks or that DICOM forbids.

An illegal UID makes every instance illegal that repeats it. So another one stands for it, the same
for all images that have it, and `replacements` tells of both.
"""

import hashlib
import re

from highdicom import ContributingEquipment
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.results import concepts
from tf_dicom_ce.results.elements import text_of
from tf_dicom_ce.results.source import Source

#: The UIDs of a source that results repeat.
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_BELOW = {"SeriesInstanceUID": "SOPInstanceUID", "StudyInstanceUID": "SeriesInstanceUID"}
_ROOT = re.compile(r"[01]\.[1-3]?\d(\.|$)|2\.", re.ASCII)  # ITU-T X.660


def made_up_uids(source: Source) -> tuple[str, ...]:
    """Keywords of UIDs that are absent or illegal: results then name ones that no PACS knows."""
    with quiet():
        return tuple(keyword for keyword in UIDS if not _is_legal(_found(source, keyword)))


def uid_of(source: Source, keyword: str) -> str:
    """A UID of the source; where it is absent or illegal one that is always the same.

    Args:
        source: The source.
        keyword: One of `UIDS`.
    """
    with quiet():
        found = _found(source, keyword)
        if _is_legal(found):
            return found
        if found:
            # It may be no more than a number, which several patients have.
            return hashed_uid(keyword, found, text_of(source.header, "PatientID"))
        if keyword in _BELOW:
            return hashed_uid(keyword, uid_of(source, _BELOW[keyword]))
        return hashed_uid(keyword, hashlib.sha256(source.pixels.tobytes()).hexdigest())


def replacements(source: Source) -> list[ContributingEquipment]:
    """Words on every illegal UID and what stands for it, in an element that holds any text."""
    with quiet():
        words = [
            f"{keyword} {found[:100]} of the source is illegal: {uid_of(source, keyword)} stands "
            "for it."
            for keyword in made_up_uids(source)
            if (found := _found(source, keyword))
        ]
        return words and [
            ContributingEquipment(
                concepts.MANUFACTURER,
                codes.DCM.ModifyingEquipment,
                contribution_description=" ".join(words),
            )
        ]


def hashed_uid(*parts: str) -> str:
    """The same UID for the same texts."""
    return generate_uid(entropy_srcs=["\n".join(parts)])


def _found(source: Source, keyword: str) -> str:
    """What stands in the header for a UID; empty if nothing does."""
    found = text_of(source.header, keyword)
    if not found and keyword == "SOPInstanceUID":
        found = text_of(source.header.file_meta, "MediaStorageSOPInstanceUID")
    return found


def _is_legal(uid: str) -> bool:
    return UID(uid).is_valid and _ROOT.match(uid) is not None
