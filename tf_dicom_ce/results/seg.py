"""A mask as a DICOM Segmentation: one binary segment a class, on the grid of the source."""

import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.seg.enum import SegmentAlgorithmTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.outlines import colour
from tf_dicom_ce.results import concepts
from tf_dicom_ce.results.evidence import (
    evidence,
    instance_identity,
    refer_to_original,
)
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import Source
from tf_dicom_ce.results.uids import hashed_uid

_SERIES_NUMBER = 9001


def segmentation(source: Source, mask: np.ndarray, model: Model) -> Dataset:
    """Makes a Segmentation Storage instance; segment and frame k are class k, even if empty.

    Args:
        source: The image.
        mask: Classes, uint8 of the height and width of the source's region; 0 is background.
        model: Who made the mask.

    Returns:
        The instance, of the source's Rows × Columns, zero outside of the region; its UIDs are the
        same for the same source and model.

    Raises:
        ValueError: The mask holds a class that the model does not have, or has another size.
    """
    if mask.max() >= len(model.classes):
        raise ValueError(f"mask has class {mask.max()}, the model has {len(model.classes)}")
    with quiet():
        result = Segmentation(
            source_images=[evidence(source)],
            pixel_array=source.in_file(mask),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=_segments(model),
            series_number=_SERIES_NUMBER,
            device_serial_number=model.weights_digest,
            content_label="SEGMENTATION",
            content_description=concepts.intended_use(model),
            omit_empty_frames=False,
            **instance_identity(source, model, "SEG"),
        )
        result.PatientOrientation = ""
        dimensions = hashed_uid("dimensions", result.SOPInstanceUID)  # highdicom takes a random one
        for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
            item.DimensionOrganizationUID = dimensions
        refer_to_original(result, source)
    return result


def _segments(model: Model) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=model.name,
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version,
        source=concepts.MANUFACTURER,
        parameters={"weights": model.weights_digest, "training data": model.fingerprint},
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=(
                codes.cid7150.AnatomicalStructure
                if concepts.organ(name)
                else codes.cid7150.SpatialAndRelationalConcept
            ),
            segmented_property_type=concepts.organ(name) or concepts.own(name),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*colour(number)),
        )
        for number, name in enumerate(model.classes[1:], start=1)
    ]
