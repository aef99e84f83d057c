"""What one look at a file's header tells; done in workers and kept in the header cache."""

import dataclasses
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from tf_dicom_ce.dicom.pictures import picture_format, picture_size
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import decisions, number_of_frames, read_header
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.tags import TagSchema, Values
from tf_dicom_ce.intake.secret import pseudonym

#: Raised whenever `examine` gives another answer for the same file.
RULES_VERSION = 1

PATIENT_BY_STUDY = "no Patient ID, patient taken from the study"
PATIENT_BY_FILE = "no Patient ID and no study, file taken as a patient of its own"


@dataclasses.dataclass(frozen=True)
class Facts:
    """A readable image.

    Attributes:
        patient: Pseudonym of the patient.
        frames: (0028,0008) Number of Frames, at least 1.
        kind: What the file is, e.g. "480×640 RGB, 30 frames, JPEG Baseline".
        flags: Every decision on patient and picture, in plain words.
        values: Element to its values, raw.
        is_picture: A PNG or JPEG: no image of a study unless a labels CSV says so.
    """

    patient: str
    frames: int
    kind: str
    flags: tuple[str, ...]
    values: Values
    is_picture: bool = False


def examine(root: Path, schema: TagSchema, secret: bytes, path: str) -> Facts | Refusal:
    """Looks at one file.

    Args:
        root: The folder that `path` is relative to.
        schema: Says which elements and which kinds of images are wanted.
        secret: Keys the pseudonyms.
        path: The file.

    Returns:
        The facts, or why there are none. No content of a file raises.
    """
    name = picture_format(root / path)
    if name is not None:
        size = picture_size(root / path)
        if isinstance(size, Refusal):
            return size
        patient = pseudonym(secret, "path", path)
        kind = f"{size[0]}×{size[1]} {name}"
        values = dict.fromkeys(schema.elements)
        return Facts(patient, 1, kind, (PATIENT_BY_FILE,), values, is_picture=True)
    header = read_header(root / path, schema.sop_classes)
    if isinstance(header, Refusal):
        return header
    with quiet():
        try:
            keyword, value = _patient(header, path)
            flags = {"PatientID": (), "StudyInstanceUID": (PATIENT_BY_STUDY,)}
            return Facts(
                pseudonym(secret, keyword, value),
                number_of_frames(header),
                _kind(header),
                (*flags.get(keyword, (PATIENT_BY_FILE,)), *decisions(header)),
                schema.read(header),
            )
        # A lazily converted element may be malformed in any way.
        except Exception as error:
            return Refusal(Code.DAMAGED_HEADER, type(error).__name__)


def to_json(result: Facts | Refusal) -> dict[str, Any] | list[str]:
    """As plain values for the header cache."""
    if isinstance(result, Refusal):
        return [result.code.value, result.detail]
    return dataclasses.asdict(result)


def from_json(entry: dict[str, Any] | list[str]) -> Facts | Refusal:
    """The inverse of `to_json`."""
    if isinstance(entry, list):
        return Refusal(Code(entry[0]), entry[1])
    values = {k: None if v is None else tuple(v) for k, v in entry["values"].items()}
    return Facts(**{**entry, "flags": tuple(entry["flags"]), "values": values})


def _patient(header: Dataset, path: str) -> tuple[str, str]:
    """Tells patients apart; without any identifier every file is a patient of its own."""
    for keyword in ("PatientID", "StudyInstanceUID"):
        value = str(header.get(keyword) or "").strip()
        if value:
            return keyword, value
    return "path", path


def _kind(header: Dataset) -> str:
    frames = number_of_frames(header)
    name = UID(header.file_meta.TransferSyntaxUID).name.split(",")[0].split(" (")[0]
    return ", ".join(
        (
            f"{header.Rows}×{header.Columns} {header.PhotometricInterpretation}",
            *((f"{frames} frames",) if frames > 1 else ()),
            name,
        )
    )
