"""The source as highdicom asks for it: a complete single frame without anything private.

highdicom fails on headers that lack elements or have odd values, and refuses cines that have no
frame of reference (highdicom#284). So results are made from this stand-in, which has only the few
elements that tie a result to its patient and study. `refer_to_original` then puts the true SOP
class and the frame's number into the references.

An illegal UID makes every instance illegal that repeats it. So another one stands for it, the same
for all images that have it, and `replacements` tells of both.
"""

import contextlib
import copy
import hashlib
import re
from collections.abc import Callable
from typing import Any

from highdicom import ContributingEquipment
from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import UID, UltrasoundImageStorage, generate_uid
from pydicom.valuerep import DA, TM

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import number_of_frames
from tf_dicom_ce.results.model import MANUFACTURER, SCHEME, SOFTWARE, Model
from tf_dicom_ce.results.source import Source

_TEXTS = (
    *("PatientID", "PatientName", "IssuerOfPatientID", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription")  # left out where empty
#: The UIDs of a source that results repeat.
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_BELOW = {"SeriesInstanceUID": "SOPInstanceUID", "StudyInstanceUID": "SeriesInstanceUID"}
_ROOT = re.compile(r"[01]\.[1-3]?\d(\.|$)|2\.", re.ASCII)  # ITU-T X.660


def evidence(source: Source) -> Dataset:
    """The stand-in for the source.

    Args:
        source: Any source; what is absent or malformed is left empty, but UIDs are derived.

    Returns:
        An Ultrasound Image Storage instance without pixels, its text in Unicode.
    """
    header, stand_in = source.header, Dataset()
    with quiet():
        for keyword in UIDS:
            setattr(stand_in, keyword, uid_of(source, keyword))
        for keyword in _TEXTS:
            text = _text_of(header, keyword)
            if text or keyword not in _OPTIONAL:
                setattr(stand_in, keyword, text)
        for keyword in ("PatientBirthDate", "StudyDate"):
            setattr(stand_in, keyword, _checked(_text_of(header, keyword).replace(".", ""), DA))
        stand_in.StudyTime = _checked(_text_of(header, "StudyTime").replace(":", ""), TM)
        sex = _text_of(header, "PatientSex").upper()
        stand_in.PatientSex = sex if sex in ("F", "M", "O") else ""
        if _text_of(header, "LossyImageCompression") == "01":
            stand_in.LossyImageCompression = "01"
            for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
                if found := _value_of(header, keyword):
                    with contextlib.suppress(ValueError):  # malformed
                        setattr(stand_in, keyword, found)
        stand_in.Rows, stand_in.Columns = int(header.Rows), int(header.Columns)
    stand_in.SpecificCharacterSet = "ISO_IR 192"
    stand_in.SOPClassUID = UltrasoundImageStorage
    stand_in.Modality = "US"
    return stand_in


def refer_to_original(result: Dataset, source: Source) -> None:
    """Puts the true SOP class, and the number of a cine's frame, where the stand-in is named.

    Args:
        result: Made from `evidence(source)` alone; changed.
        source: The source.
    """
    with quiet():
        sop_class, cine = original_class(source), is_cine(source)
    if "SourceImageSequence" in result:
        # highdicom has the same items stand where no frame number may.
        result.SourceImageSequence = copy.deepcopy(result.SourceImageSequence)

    def correct(_: Dataset, element: DataElement) -> None:
        for item in element.value if element.VR == "SQ" else ():
            if "ReferencedSOPClassUID" in item:
                item.ReferencedSOPClassUID = sop_class
            if element.keyword == "SourceImageSequence" and cine:
                item.ReferencedFrameNumber = source.frame + 1

    result.walk(correct)


def is_cine(source: Source) -> bool:
    """Whether the file has several frames."""
    return number_of_frames(source.header) > 1


def original_class(source: Source) -> str:
    """(0008,0016) SOP Class UID of the source."""
    return source.header.get("SOPClassUID") or source.header.file_meta.MediaStorageSOPClassUID


def instance_identity(source: Source, model: Model, kind: str) -> dict[str, Any]:
    """UIDs, numbers, maker and purpose of a result, the same for the same source, model and kind.

    A series holds all results of one kind that a model made from a series of images, or from a
    cine. A model is its name, version and weights. UIDs also depend on the version of this package:
    a model leaves it to code outside of it to enlarge its mask and to write the report.

    Args:
        source: What it is made from.
        model: What makes it.
        kind: E.g. "SEG".

    Returns:
        Arguments of highdicom's constructors.
    """
    stand_in = evidence(source)
    who = (model.name, model.version, model.weights_digest, SOFTWARE, kind)
    with quiet():
        cine, number = is_cine(source), _text_of(source.header, "InstanceNumber")
    images = stand_in.SOPInstanceUID if cine else stand_in.SeriesInstanceUID
    series = hashed_uid("series", images, *who)
    where = (stand_in.SOPInstanceUID, f"{source.frame}", f"{tuple(source.region)}")
    numbered = number.isdecimal() and 0 < int(number) < 1 << 31
    return {
        "series_instance_uid": series,
        "sop_instance_uid": hashed_uid("instance", series, *where),
        "instance_number": source.frame + 1 if cine or not numbered else int(number),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model.name,
        "software_versions": (model.version, model.weights_digest, SOFTWARE),
        "series_description": f"Research use only: {model.name[:32]} {model.version[:8]}",
        "content_qualification": "RESEARCH",
        "coding_schemes": [SCHEME],
        "contributing_equipment": replacements(source),
    }


def _checked(text: str, parse: Callable) -> str:
    try:
        parse(text)
    except ValueError:
        return ""
    return text


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
            return hashed_uid(keyword, found, _text_of(source.header, "PatientID"))
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
                MANUFACTURER,
                codes.DCM.ModifyingEquipment,
                contribution_description=" ".join(words),
            )
        ]


def hashed_uid(*parts: str) -> str:
    """The same UID for the same texts."""
    return generate_uid(entropy_srcs=["\n".join(parts)])


def _found(source: Source, keyword: str) -> str:
    """What stands in the header for a UID; empty if nothing does."""
    found = _text_of(source.header, keyword)
    if not found and keyword == "SOPInstanceUID":
        found = _text_of(source.header.file_meta, "MediaStorageSOPInstanceUID")
    return found


def _is_legal(uid: str) -> bool:
    return UID(uid).is_valid and _ROOT.match(uid) is not None


def _value_of(dataset: Dataset, keyword: str) -> Any:
    """The value of an element; None if it is absent or cannot be read."""
    try:
        return dataset.get(keyword)
    # A malformed element raises whatever comes to pydicom's hand.
    except Exception:
        return None


def _text_of(dataset: Dataset, keyword: str) -> str:
    """The first value of an element as text; empty if there is none."""
    found = _value_of(dataset, keyword)
    if isinstance(found, MultiValue):
        found = found[0] if found else None
    text = "" if found is None else str(found)
    return "".join(character for character in text if character.isprintable()).strip()
