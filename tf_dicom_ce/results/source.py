"""One frame of a file, with what a result has to say about where it comes from."""

import dataclasses
import os

import numpy as np
from pydicom import Dataset
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


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """What a result is made of."""

    # By keyword, as printable text, the elements that results repeat; "" where one is absent or
    # malformed, backslashes between values. None of a PNG or JPEG.
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

    @classmethod
    def of(cls, found: Frame, frame: int | None) -> "SourceImage":
        """The source of a frame, of this number (None: the middle), in the process that read it."""
        header, frames, spacing, hiding = None, 1, None, ()
        if found.header is not None:
            with quiet():
                header, frames = _texts(found.header), number_of_frames(found.header)
                spacing = pixel_spacing(found.header, found.region)
                hiding = _codes(found.header, "DeidentificationMethodCodeSequence")
        number = frames // 2 if frame is None else frame
        of_file = (header, number, frames, found.source_shape)
        return cls(*of_file, found.region, found.pixels, spacing, hiding)

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


def _texts(header: Dataset) -> dict[str, str]:
    texts = {keyword: (*_values(header, keyword), "")[0] for keyword in _KEYWORDS}
    texts |= {keyword: "\\".join(_values(header, keyword)) for keyword in _OF_SEVERAL_VALUES}
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not texts[keyword]:
            texts[keyword] = (*_values(header.file_meta, f"MediaStorage{keyword}"), "")[0]
    return texts


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
