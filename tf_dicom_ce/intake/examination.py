"""What one look at a file's header tells; done in workers and kept in the header cache."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

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


class Facts(NamedTuple):
    """A readable image; plain values throughout, as the header cache keeps them.

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
    with quiet():
        header = read_header(root / path, schema.sop_classes)
        if isinstance(header, Refusal):
            is_picture = header.code is Code.NOT_DICOM and picture_format(root / path)
            return _examine_picture(root, schema, secret, path) if is_picture else header
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


def to_json(result: Facts | Refusal) -> list[Any]:
    """As plain values for the header cache."""
    return list(result) if isinstance(result, Facts) else [result.code.value, result.detail]


def from_json(entry: list[Any]) -> Facts | Refusal:
    """The inverse of `to_json`."""
    if len(entry) == 2:
        return Refusal(Code(entry[0]), entry[1])
    *start, flags, values, is_picture = entry
    values = {k: None if v is None else tuple(v) for k, v in values.items()}
    return Facts(*start, tuple(flags), values, is_picture)


def _examine_picture(root: Path, schema: TagSchema, secret: bytes, path: str) -> Facts | Refusal:
    size = picture_size(root / path)
    if isinstance(size, Refusal):
        return size
    kind = f"{size[0]}×{size[1]} {picture_format(root / path)}"
    values = dict.fromkeys(schema.elements)
    return Facts(pseudonym(secret, "path", path), 1, kind, (PATIENT_BY_FILE,), values, True)


def _patient(header: Dataset, path: str) -> tuple[str, str]:
    """Tells patients apart; without any identifier every file is a patient of its own."""
    for keyword in ("PatientID", "StudyInstanceUID"):
        value = str(header.get(keyword) or "").strip()
        if value:
            return keyword, value
    return "path", path


def _kind(header: Dataset) -> str:
    frames = number_of_frames(header)
    name = _syntax_name(header.file_meta.TransferSyntaxUID)
    return ", ".join(
        (
            f"{header.Rows}×{header.Columns} {header.PhotometricInterpretation}",
            *((f"{frames} frames",) if frames > 1 else ()),
            name,
        )
    )


@functools.cache
def _syntax_name(uid: str) -> str:
    return UID(uid).name.split(",")[0].split(" (")[0]
