"""The source as highdicom asks for it: a complete single frame without anything private.

highdicom fails on headers that lack elements or have odd values, and refuses cines that have no
frame of reference (highdicom#284). So results are made from this stand-in, which has only the few
elements that tie a result to its patient and study. `refer_to_original` then puts the true SOP
class and the frame's number into the references.

An illegal UID makes every instance illegal that repeats it. So another one stands for it, the same
for all images that have it, and Contributing Equipment tells of both.
"""

import contextlib
import copy
import hashlib
import re
from collections.abc import Callable
from typing import Any

from highdicom import ContributingEquipment
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, UltrasoundImageStorage, generate_uid
from pydicom.valuerep import DA, TM

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.results.model import MANUFACTURER, SCHEME, SOFTWARE, Model
from tf_dicom_ce.results.source import SourceImage

_TEXTS = ("PatientID", "PatientName", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription")  # left out where empty
# The UIDs of a source that results repeat; each is made up from the one before.
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_ROOT = re.compile(r"[01]\.[1-3]?\d(\.|$)|2\.", re.ASCII)  # ITU-T X.660


def evidence(source: SourceImage) -> Dataset:
    """The stand-in for a DICOM source.

    Returns:
        An Ultrasound Image Storage instance without pixels, its text in Unicode. What is absent or
        malformed is left empty, but UIDs are made up.
    """
    header, stand_in = source.header, Dataset()
    with quiet():
        for keyword in _UIDS:
            setattr(stand_in, keyword, uid_of(source, keyword))
        for keyword in (*_TEXTS, *_OPTIONAL):
            if header[keyword] or keyword in _TEXTS:
                setattr(stand_in, keyword, header[keyword])
        for keyword in ("PatientBirthDate", "StudyDate"):
            setattr(stand_in, keyword, _checked(header[keyword].replace(".", ""), DA))
        stand_in.StudyTime = _checked(header["StudyTime"].replace(":", ""), TM)
        sex = header["PatientSex"].upper()
        stand_in.PatientSex = sex if sex in ("F", "M", "O") else ""
        if header["LossyImageCompression"] == "01":
            stand_in.LossyImageCompression = "01"
            for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
                if header[keyword]:
                    with contextlib.suppress(ValueError):  # malformed
                        setattr(stand_in, keyword, header[keyword])
        stand_in.Rows, stand_in.Columns = source.shape
    stand_in.SpecificCharacterSet = "ISO_IR 192"
    stand_in.SOPClassUID = UltrasoundImageStorage
    stand_in.Modality = "US"
    return stand_in


def refer_to_original(result: Dataset, source: SourceImage) -> None:
    """Puts the true SOP class, and the number of a cine's frame, where the stand-in is named."""
    if "SourceImageSequence" in result:
        # highdicom has the same items stand where no frame number may.
        result.SourceImageSequence = copy.deepcopy(result.SourceImageSequence)

    def correct(_: Dataset, element: DataElement) -> None:
        for item in element.value if element.VR == "SQ" else ():
            if "ReferencedSOPClassUID" in item:
                item.ReferencedSOPClassUID = source.header["SOPClassUID"]
            if element.keyword == "SourceImageSequence" and source.frames > 1:
                item.ReferencedFrameNumber = source.frame + 1

    result.walk(correct)


def instance_identity(source: SourceImage, model: Model, kind: str) -> dict[str, Any]:
    """Arguments of highdicom's constructors: UIDs, numbers, maker and purpose of a result.

    They are the same for the same source, model and kind, e.g. "SEG". A series holds all results of
    one kind that a model made from a series of images, or from a cine. A model is its name, version
    and weights. UIDs also depend on the version of this package: a model leaves it to code outside
    of it to enlarge its mask and to write the report.
    """
    image = uid_of(source, "SOPInstanceUID")
    is_cine, number = source.frames > 1, source.header["InstanceNumber"]
    images = image if is_cine else uid_of(source, "SeriesInstanceUID")
    who = (model.name, model.version, model.weights_digest, SOFTWARE, kind)
    series = hashed_uid("series", images, *who)
    where = (image, f"{source.frame}", f"{tuple(source.region)}")
    numbered = number.isdecimal() and 0 < int(number) < 1 << 31
    return {
        "series_instance_uid": series,
        "sop_instance_uid": hashed_uid("instance", series, *where),
        "instance_number": source.frame + 1 if is_cine or not numbered else int(number),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model.name,
        "software_versions": (model.version, model.weights_digest, SOFTWARE),
        "series_description": f"Research use only: {model.name[:32]} {model.version[:8]}",
        "content_qualification": "RESEARCH",
        "coding_schemes": [SCHEME],
        "contributing_equipment": _replacements(source),
    }


def made_up_uids(source: SourceImage) -> tuple[str, ...]:
    """Keywords of UIDs that are absent or illegal: results then name ones that no PACS knows."""
    return tuple(keyword for keyword in _UIDS if not _is_legal(source.header[keyword]))


def uid_of(source: SourceImage, keyword: str) -> str:
    """The SOP instance, series or study UID; if absent or illegal one that is always the same."""
    found, number = source.header[keyword], _UIDS.index(keyword)
    if _is_legal(found):
        return found
    if found:
        # It may be no more than a number, which several patients have.
        return hashed_uid(keyword, found, source.header["PatientID"])
    if number:
        return hashed_uid(keyword, uid_of(source, _UIDS[number - 1]))
    return hashed_uid(keyword, hashlib.sha256(source.pixels.tobytes()).hexdigest())


def hashed_uid(*parts: str) -> str:
    """The same UID for the same texts."""
    return generate_uid(entropy_srcs=["\n".join(parts)])


def _is_legal(uid: str) -> bool:
    with quiet():
        return UID(uid).is_valid and _ROOT.match(uid) is not None


def _replacements(source: SourceImage) -> list[ContributingEquipment]:
    """Words on every illegal UID and what stands for it, in an element that holds any text."""
    words = [
        f"{keyword} {found[:100]} of the source is illegal: {uid_of(source, keyword)} stands "
        "for it."
        for keyword in made_up_uids(source)
        if (found := source.header[keyword])
    ]
    if not words:
        return []
    text, purpose = " ".join(words), codes.DCM.ModifyingEquipment
    return [ContributingEquipment(MANUFACTURER, purpose, contribution_description=text)]


def _checked(text: str, parse: Callable) -> str:
    try:
        parse(text)
    except ValueError:
        return ""
    return text
