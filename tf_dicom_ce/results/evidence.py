"""The source as highdicom asks for it: a complete single frame without anything private.

highdicom fails on headers that lack elements or have odd values, and refuses cines that have no
frame of reference (highdicom#284). So results are made from this stand-in, which has only the few
elements that tie a result to its patient and study. `mend` then puts the true SOP class and the
numbers of the frames into the references.

An illegal UID would make every instance that repeats it illegal. So a legal one takes its place,
the same for all images that have it, and Contributing Equipment names both.
"""

import contextlib
import copy
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

from highdicom import ContributingEquipment
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence_item
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag
from pydicom.uid import UID, UltrasoundImageStorage, generate_uid
from pydicom.valuerep import DA, TM

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.results.codes import SCHEME
from tf_dicom_ce.results.finding import Examined
from tf_dicom_ce.results.model import MANUFACTURER, SOFTWARE, Model
from tf_dicom_ce.results.source import SourceImage

_TEXTS = ("PatientID", "PatientName", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription")  # left out where empty
# The UIDs of a source that results repeat; one that is absent is made of the one before it.
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# Elements that tell how a source was de-identified, and their allowed values; () allows any.
_HIDING = {
    "PatientIdentityRemoved": ("YES", "NO"),
    "DeidentificationMethod": (),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
_ZONE = re.compile(r"[+-]\d{4}", re.ASCII)
_NO_DATE = "19000101"  # where an element must have a value and the source has none
_UNICODE = "utf8"
_ROOT = re.compile(r"[01]\.[1-3]?\d(\.|$)|2\.", re.ASCII)  # ITU-T X.660


def evidence(source: SourceImage) -> Dataset:
    """The stand-in for a DICOM source.

    Returns:
        An Ultrasound Image Storage instance without pixels, its text in Unicode. Elements that are
        absent or malformed are left empty; UIDs are made up instead.
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


class ContradictionError(ValueError):
    """Images of a study that no report can be about; the message is the keyword of an element."""


def check_agreement(stand_ins: Sequence[Dataset]) -> None:
    """Checks the stand-ins of a report's images: what one says of the patient holds for all.

    Capital letters make no difference, nor does what an image leaves empty.

    Raises:
        ContradictionError: Name, birth date or sex differ, or two have one SOP Instance UID.
    """
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex"):
        said = {str(one[keyword].value or "").rstrip("^").casefold() for one in stand_ins}
        if len(said - {""}) > 1:
            raise ContradictionError(keyword)
    if len({one.SOPInstanceUID for one in stand_ins}) < len(stand_ins):
        raise ContradictionError("SOPInstanceUID")


def identity(images: Sequence[Examined], model: Model, *kind: str) -> dict[str, Any]:
    """Arguments of highdicom's constructors: UIDs, numbers, maker and purpose of a result.

    They are the same for the same images, frames, pixels, model and kind, e.g. "SEG". Every result
    is a series of its own, because viewers show one instance of a series. Pixels count, because two
    images may have one SOP Instance UID. A model is its name, version, weights and codes. UIDs also
    depend on the version of this package, whose code enlarges the masks and writes the report.
    """
    what = []
    for source, findings in images:
        frames = [f"{found.frame} {tuple(found.region)} {found.digest}" for found in findings]
        what += [uid_of(source, "SOPInstanceUID"), f"{source.frames}", *frames]
    what += [model_uid(model), *kind]
    return {
        "series_instance_uid": hashed_uid("series", *what),
        "sop_instance_uid": hashed_uid("instance", *what),
        "instance_number": instance_number(images[0][0]) or 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model.name,
        "software_versions": (model.version, model.weights_digest, SOFTWARE),
        "series_description": f"Research use only: {model.name[:32]} {model.version[:8]}",
        "content_qualification": "RESEARCH",
        "coding_schemes": [
            CodingSchemeIdentificationItem(
                SCHEME, "Class names of tf_dicom_ce", responsible_organization=MANUFACTURER
            )
        ],
        "contributing_equipment": [item for source, _ in images for item in _replacements(source)],
    }


def instance_number(source: SourceImage) -> int | None:
    """(0020,0013) Instance Number of a source, if it is one."""
    number = source.header["InstanceNumber"]
    return int(number) if number.isdecimal() and 0 < int(number) < 1 << 31 else None


def study_of(source: SourceImage) -> tuple[str, ...]:
    """What the sources of one report have in common: study and patient."""
    keywords = ("PatientID", "IssuerOfPatientID")
    return (uid_of(source, "StudyInstanceUID"), *(source.header[keyword] for keyword in keywords))


def model_uid(model: Model) -> str:
    """A UID of a model together with this package."""
    codes = (str(what) for what in model.codes)
    return hashed_uid("device", model.name, model.version, model.weights_digest, SOFTWARE, *codes)


def mend(result: Dataset, images: Sequence[Examined]) -> None:
    """Puts right what highdicom makes of the stand-ins.

    Each source gets its true SOP class, and the numbers of its frames unless they are all. Content
    Date and Time are those of the source's content or else of its study, the latest of several: the
    same answer is the same file, and file system and PACS know when it was made. The time zone is
    carried over with them, and whatever all sources say of how the patient was hidden.
    """
    if "SourceImageSequence" in result:
        ((source, findings),) = images
        # highdicom has the same items stand where no frame number may.
        result.SourceImageSequence = copy.deepcopy(result.SourceImageSequence)
        if len(findings) < source.frames:
            frames = [finding.frame + 1 for finding in findings]
            result.SourceImageSequence[0].ReferencedFrameNumber = frames
    sources = [source for source, _ in images]
    name_classes(result, sources)
    latest = max(sources, key=_content_time)
    result.ContentDate, result.ContentTime = _content_time(latest)
    del result.InstanceCreationDate, result.InstanceCreationTime
    for item in result.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    if _ZONE.fullmatch(zone := latest.header["TimezoneOffsetFromUTC"]):
        result.TimezoneOffsetFromUTC = zone
    for keyword, values in _HIDING.items():
        said, *others = {source.header[keyword] for source in sources}
        if not others and (said in values or (said and not values)):
            setattr(result, keyword, said)
    hiding, *others = {source.hiding for source in sources}
    if hiding and not others:
        result.DeidentificationMethodCodeSequence = [CodedConcept(*code) for code in hiding]


def _content_time(source: SourceImage) -> tuple[str, str]:
    """Date and time of the content, or else of the study."""
    for kind in ("Content", "Study"):
        day = _checked(source.header[f"{kind}Date"].replace(".", ""), DA)
        hour = _checked(source.header[f"{kind}Time"].replace(":", ""), TM)
        if day:
            return day, hour or "000000"
    return _NO_DATE, "000000"


def name_classes(result: Dataset, sources: Iterable[SourceImage]) -> None:
    """Puts the true SOP class wherever a source is named: also a retired or a private one."""
    classes = {uid_of(source, "SOPInstanceUID"): source.header["SOPClassUID"] for source in sources}

    def correct(_: Dataset, element: DataElement) -> None:
        for item in element.value if element.VR == "SQ" else ():
            if (uid := item.get("ReferencedSOPInstanceUID")) in classes:
                item.ReferencedSOPClassUID = classes[uid]

    result.walk(correct)


def put_encoded(dataset: Dataset, tag: BaseTag, items: Iterable[Dataset]) -> None:
    """Puts in a sequence that is encoded as in the file, item by item.

    One item may be changed to give the next. `write_part10` writes them as they are.
    """
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    for item in items:
        write_sequence_item(file, item, [_UNICODE])
    content = file.getvalue()
    dataset[tag] = RawDataElement(tag, "SQ", len(content), content, 0, False, True)
    _mark(dataset)


def write_part10(file: BinaryIO, dataset: Dataset) -> None:
    """Writes a DICOM file (PS3.10) that holds `dataset`."""
    _mark(dataset)
    dataset.save_as(file, enforce_file_format=True)


def _mark(dataset: Dataset) -> None:
    """Has pydicom take it as read from such a file; else it decodes what it is to write."""
    dataset.set_original_encoding(False, True, dataset._character_set)


def made_up_uids(source: SourceImage) -> tuple[str, ...]:
    """Keywords of the UIDs that are absent or illegal; results have others, which no PACS knows."""
    return tuple(keyword for keyword in _UIDS if not _is_legal(source.header[keyword]))


def uid_of(source: SourceImage, keyword: str) -> str:
    """The SOP instance, series or study UID; a made-up one, always the same, if it is not legal."""
    found, number = source.header[keyword], _UIDS.index(keyword)
    if _is_legal(found):
        return found
    if found:
        # It may be no more than a number, which several patients have.
        return hashed_uid(keyword, found, source.header["PatientID"])
    if number:
        return hashed_uid(keyword, uid_of(source, _UIDS[number - 1]))
    return hashed_uid(keyword, source.digest)


def hashed_uid(*parts: str) -> str:
    """The same UID for the same texts."""
    return generate_uid(entropy_srcs=["\n".join(parts)])


def _is_legal(uid: str) -> bool:
    with quiet():
        return UID(uid).is_valid and _ROOT.match(uid) is not None


def _replacements(source: SourceImage) -> list[ContributingEquipment]:
    """Names every illegal UID and the one in its place, in an element that holds any text."""
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
