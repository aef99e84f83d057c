"""One frame of a file, and what a result has to repeat of its header."""

import dataclasses
import hashlib
import math
import os
from typing import NamedTuple

import numpy as np
from pydicom import Dataset, uid
from pydicom.multival import MultiValue

from tf_dicom_ce.dicom.pictures import read_images
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import ULTRASOUND, Frame, number_of_frames
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.regions import Region, pixel_spacing

_MAX_SIDE = 0xFFFF  # the largest (0028,0010) Rows
_MAX_PIXELS = 1 << 24  # 4096 × 4096; a model takes some 10 bytes for each
_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "InstanceNumber"),
    *("PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDescription", "StudyDate", "StudyTime", "AccessionNumber"),
    *("ReferringPhysicianName", "LossyImageCompression", "ContentDate", "ContentTime"),
    *("TimezoneOffsetFromUTC", "PatientIdentityRemoved", "DeidentificationMethod"),
    "LongitudinalTemporalInformationModified",
)
_OF_SEVERAL_VALUES = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
# (0028,2114) Lossy Image Compression Method by (0002,0010) Transfer Syntax UID (PS3.3 C.7.6.1.1.5):
# of those that always lose something, and of those that may.
_LOSSY = {
    **dict.fromkeys((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit), "ISO_10918_1"),
    **{one: "ISO_13818_2" for one in uid.MPEGTransferSyntaxes if "MPEG2" in one.keyword},
    **{one: "ISO_14496_10" for one in uid.MPEGTransferSyntaxes if "MPEG4" in one.keyword},
    **{one: "ISO_23008_2" for one in uid.MPEGTransferSyntaxes if "HEVC" in one.keyword},
}
_PERHAPS_LOSSY = {
    uid.JPEGLSNearLossless: "ISO_14495_1",
    **dict.fromkeys((uid.JPEG2000, uid.JPEG2000MC), "ISO_15444_1"),
    uid.HTJ2K: "ISO_15444_15",
}


class Plane(NamedTuple):
    """Where the image of a CT or MR lies in the patient, mm; an ultrasound image has no place."""

    orientation: tuple[float, ...]  # (0020,0037) Image Orientation (Patient)
    position: tuple[float, ...]  # (0020,0032) Image Position (Patient)
    frame_of_reference: str  # (0020,0052) Frame of Reference UID


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """An image that a head is asked about, with all that a result needs of its file."""

    # The elements that results repeat, by keyword, as printable text with backslashes between
    # values; "" where one is absent or malformed. None of a PNG or JPEG.
    header: dict[str, str] | None
    frame: int  # of a cine, from 0
    frames: int  # (0028,0008) Number of Frames, at least 1
    shape: tuple[int, int]  # height and width of the whole picture: Rows and Columns
    region: Region  # of `pixels` in it
    pixels: np.ndarray  # uint8 [height, width], 0 black to 255 white: what the model is to see
    # Height and width of a pixel, mm; None where the header does not calibrate the region.
    spacing: tuple[float, float] | None = None
    # (0012,0064) De-identification Method Code Sequence: code values, coding schemes and meanings.
    hiding: tuple[tuple[str, str, str], ...] = ()
    plane: Plane | None = None  # None of ultrasound, and where the header does not tell
    digest: str = ""  # SHA-256 of `pixels` in hex

    @classmethod
    def of(cls, found: Frame, frame: int | None) -> "SourceImage":
        """Takes a frame, of this number (None: the middle), in the process that read it."""
        header, frames, spacing, hiding, plane = None, 1, None, (), None
        if found.header is not None:
            with quiet():
                header, frames = _texts(found), number_of_frames(found.header)
                spacing = pixel_spacing(found.header, found.region)
                hiding = _codes(found.header, "DeidentificationMethodCodeSequence")
                if header["SOPClassUID"] not in ULTRASOUND and frames == 1:
                    spacing = _numbers(found.header, "PixelSpacing", 2, least=1e-6)
                    plane = _plane(found.header)
        number = frames // 2 if frame is None else frame
        digest = hashlib.sha256(found.pixels.tobytes()).hexdigest()
        of_file = (header, number, frames, found.source_shape)
        return cls(*of_file, found.region, found.pixels, spacing, hiding, plane, digest)

    def without_pixels(self) -> "SourceImage":
        """All but the pixels: enough to write what was found."""
        return dataclasses.replace(self, pixels=self.pixels[:0, :0].copy())  # a view would hold all

    def in_file(self, mask: np.ndarray) -> np.ndarray:
        """Puts a mask of `pixels`, uint8 [height, width], in its place in the file.

        Returns:
            uint8 [Rows, Columns], zero outside of the region.

        Raises:
            ValueError: The mask has another size.
        """
        if mask.shape != self.pixels.shape:
            raise ValueError(f"mask of {mask.shape}, the image has {self.pixels.shape}")
        whole = np.zeros(self.shape, np.uint8)
        whole[self.region.slices] = mask
        return whole


def open_image(
    path: str | os.PathLike[str],
    classes: frozenset[str] = ULTRASOUND,
    find_sector: bool = False,
    blank_outside: bool = False,
    frame: int | None = None,
) -> SourceImage | Refusal:
    """Reads one frame of DICOM, PNG or JPEG as in training: the arguments are `read_frame`'s.

    Returns:
        The source, or why there is none. No content of a file raises.
    """
    (found,) = read_images(path, (frame,), find_sector, blank_outside, classes)
    if isinstance(found, Refusal):
        return found
    if max(found.source_shape) > _MAX_SIDE or found.pixels.size > _MAX_PIXELS:
        return Refusal(Code.TOO_LARGE, "rows × columns")
    return SourceImage.of(found, frame)


def _texts(found: Frame) -> dict[str, str]:
    header = found.header
    texts = {keyword: (*_values(header, keyword), "")[0] for keyword in _KEYWORDS}
    texts |= {keyword: "\\".join(_values(header, keyword)) for keyword in _OF_SEVERAL_VALUES}
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not texts[keyword]:
            texts[keyword] = (*_values(header.file_meta, f"MediaStorage{keyword}"), "")[0]
    return texts | _compression(texts, header.file_meta.TransferSyntaxUID, found.compression)


def _compression(texts: dict[str, str], syntax: str, ratio: float) -> dict[str, str]:
    """What transfer syntax and size tell of a lossy compression, where the header does not.

    Pixels that were decompressed since do not tell how they had been compressed. Nothing is told
    beside a method or ratio of several compressions, each of which would need its own.
    """
    found = {"LossyImageCompression": "01"} if syntax in _LOSSY else {}
    is_lossy = (texts | found)["LossyImageCompression"] == "01"
    method = (_LOSSY | _PERHAPS_LOSSY).get(syntax)
    several = any("\\" in texts[keyword] for keyword in _OF_SEVERAL_VALUES)
    if is_lossy and method and not several:
        own = {"LossyImageCompressionMethod": method, "LossyImageCompressionRatio": f"{ratio:.2f}"}
        found |= {keyword: text for keyword, text in own.items() if not texts[keyword]}
    return found


def _plane(header: Dataset) -> Plane | None:
    orientation = _numbers(header, "ImageOrientationPatient", 6)
    position = _numbers(header, "ImagePositionPatient", 3)
    frame = (*_values(header, "FrameOfReferenceUID"), "")[0]
    return Plane(orientation, position, frame) if orientation and position and frame else None


def _numbers(
    header: Dataset, keyword: str, count: int, least: float = -math.inf
) -> tuple[float, ...] | None:
    """The numbers of an element; None unless they are so many, finite and large enough."""
    try:
        found = tuple(float(text) for text in _values(header, keyword))
    except ValueError:
        return None
    fit = len(found) == count and all(math.isfinite(one) and one >= least for one in found)
    return found if fit else None


def _codes(header: Dataset, keyword: str) -> tuple[tuple[str, str, str], ...]:
    """The codes of a sequence; none if it is absent or malformed."""
    parts = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    try:
        items = list(header.get(keyword) or ())
    except Exception:  # as in `_values`
        return ()
    found = [tuple((*_values(item, part), "")[0] for part in parts) for item in items]
    return tuple(code for code in found if all(code))


def _values(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an element; none if it is absent or cannot be read."""
    try:
        found = dataset.get(keyword)
        values = found if isinstance(found, MultiValue) else [] if found is None else [found]
        return ["".join(filter(str.isprintable, str(value))).strip() for value in values]
    # A malformed element raises whatever comes to pydicom's hand.
    except Exception:
        return []
