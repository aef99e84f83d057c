"""A DICOM Segmentation of one image: still, or all frames of a cine that were asked about."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from highdicom import seg
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.valuerep import DSfloat

from tf_dicom_ce.masks import colour
from tf_dicom_ce.results.evidence import (
    evidence,
    hashed_uid,
    identity,
    mend,
    put_encoded,
    write_part10,
)
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import MANUFACTURER, Model
from tf_dicom_ce.results.source import SourceImage

#: Of every segment of an image whose pixels have no known size.
UNCALIBRATED = "The image is not calibrated: do not measure. Pixel Spacing is not its own."
_SERIES = 9001
_MAX_BYTES = 0xFFFFFFFE


def write_segmentation(
    file: BinaryIO, source: SourceImage, findings: Sequence[Finding], model: Model
) -> None:
    """Writes a Segmentation Storage instance, frame by frame: memory does not grow with the masks.

    Each finding has one frame for each class but the background, even if it is empty. Frames follow
    the findings, and within one the classes. They have the source's Rows × Columns, zero outside of
    the region. UIDs are the same for the same source, frames and model.

    Args:
        file: Open for writing, empty.
        source: The image, any frame of it.
        findings: Of its frames, in their order; at least one.
        model: Who made the masks.

    Raises:
        ValueError: The masks are larger than an element can be, 4 GiB.
    """
    segments = len(model.classes) - 1
    bits = len(findings) * segments * source.shape[0] * source.shape[1]
    if (size := -(-bits // 16) * 2) > _MAX_BYTES:
        raise ValueError(f"{size} bytes of masks")
    result = _without_pixels(source, findings, model)
    result.NumberOfFrames = len(findings) * segments
    items = _frame_items(result, source, findings)
    put_encoded(result, Tag("PerFrameFunctionalGroupsSequence"), items)
    write_part10(file, result)
    file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, size))
    masks = (finding.mask(source) for finding in findings)
    for content in packed_bits(mask == k for mask in masks for k in range(1, segments + 1)):
        file.write(content)
        size -= len(content)
    file.write(bytes(size))  # to an even length


def packed_bits(planes: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Packs bool planes into bits, the first pixel lowest; a byte may hold two planes' pixels."""
    rest = np.zeros(0, bool)
    for plane in planes:
        pixels = np.concatenate([rest, plane.ravel()])
        whole = len(pixels) // 8 * 8
        yield np.packbits(pixels[:whole], bitorder="little").tobytes()
        rest = pixels[whole:]
    yield np.packbits(rest, bitorder="little").tobytes()


def _without_pixels(source: SourceImage, findings: Sequence[Finding], model: Model) -> Dataset:
    """The data set without pixels; its per-frame items are those of the first finding alone."""
    result = seg.Segmentation(
        source_images=[evidence(source)],
        pixel_array=np.zeros(source.shape, np.uint8),
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(model),
        series_number=_SERIES,
        device_serial_number=model.weights_digest,
        content_label="SEGMENTATION",
        content_description=model.intended_use,
        omit_empty_frames=False,
        **identity([(source, findings)], model, "SEG"),
    )
    del result.PixelData
    result.PatientOrientation = result.ContentCreatorName = ""
    _place(result, source)
    mend(result, [(source, findings)])
    return result


def _place(result: Dataset, source: SourceImage) -> None:
    """Adds the functional groups by which viewers lay a mask on its image.

    An ultrasound image has no place in the patient. So it is put at the origin of a plane of its
    own, and the frames of a cine 1 mm apart, so that readers keep them apart. Without a calibration
    a pixel is said to be 1 mm, because viewers need a number, and each segment says that it is not
    the image's own. A CT or MR lies where its header says.
    """
    measures, orientation = Dataset(), Dataset()
    measures.SliceThickness = measures.SpacingBetweenSlices = 1  # readers want it; there is none
    measures.PixelSpacing = _exact(source.spacing or (1, 1))
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    if source.plane:
        orientation.ImageOrientationPatient = _exact(source.plane.orientation)
        result.FrameOfReferenceUID = source.plane.frame_of_reference
        result.PositionReferenceIndicator = ""
    shared = (*result.get("SharedFunctionalGroupsSequence", ()), Dataset())[0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    result.SharedFunctionalGroupsSequence = [shared]
    if source.spacing is None:
        for segment in result.SegmentSequence:
            segment.SegmentDescription = UNCALIBRATED
    if source.frames > 1:
        by_place = Dataset()
        by_place.DimensionIndexPointer = Tag("ImagePositionPatient")
        by_place.FunctionalGroupPointer = Tag("PlanePositionSequence")
        by_place.DimensionDescriptionLabel = "Image Position Patient"
        result.DimensionIndexSequence.append(by_place)
    dimensions = hashed_uid("dimensions", result.SOPInstanceUID)  # highdicom takes a random one
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions


def _frame_items(
    result: Dataset, source: SourceImage, findings: Sequence[Finding]
) -> Iterator[Dataset]:
    """The items of all frames, made by changing those of the first."""
    items = list(result.PerFrameFunctionalGroupsSequence)
    for number, finding in enumerate(findings, start=1):
        for segment, item in enumerate(items, start=1):
            position = Dataset()
            place = source.plane.position if source.plane else (0, 0, finding.frame)
            position.ImagePositionPatient = _exact(place)
            item.PlanePositionSequence = [position]
            if source.frames > 1:
                (derivation,) = item.DerivationImageSequence
                (image,) = derivation.SourceImageSequence
                image.ReferencedFrameNumber = finding.frame + 1
                item.FrameContentSequence[0].DimensionIndexValues = [segment, number]
            yield item


def _exact(numbers: Iterable[float]) -> list[DSfloat]:
    """Numbers with all the digits that the element can hold."""
    return [DSfloat(number, auto_format=True) for number in numbers]


def _segments(model: Model) -> list[seg.SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=model.name,
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version,
        source=MANUFACTURER,
        parameters={"weights": model.weights_digest, "training data": model.fingerprint},
    )
    return [
        seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=what.category,
            segmented_property_type=what.code,
            algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*colour(number)),
        )
        for number, (name, what) in enumerate(
            zip(model.classes[1:], model.codes[1:], strict=True), start=1
        )
    ]
