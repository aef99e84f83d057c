"""The files of an answer: a DICOM Segmentation or Structured Report, and a picture for a look."""

import copy
import io
from collections.abc import Mapping

import numpy as np
from highdicom import seg, sr
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.masks import colour, outline
from tf_dicom_ce.results.evidence import (
    evidence,
    hashed_uid,
    instance_identity,
    refer_to_original,
)
from tf_dicom_ce.results.model import MANUFACTURER, SOFTWARE, Model, organ, own
from tf_dicom_ce.results.source import SourceImage

#: Of every segment of an image whose pixels have no known size.
UNCALIBRATED = "The image is not calibrated: do not measure. Pixel Spacing is not its own."
_SEG_SERIES, _SR_SERIES = 9001, 9002
_PROCEDURE = codes.cid100.ImagingProcedure  # ultrasonography of SNOMED is a department
_LINE = 14  # height of a line of the legend


def dicom_file(source: SourceImage, model: Model, answer: Mapping[str, np.ndarray]) -> bytes:
    """Makes the file: a SEG for a segmentation, an SR for a classification.

    Args:
        source: The image, of a DICOM file.
        model: Who answered.
        answer: `mask`, see `segmentation`; or `class_id` and `probabilities`, see `report`.
    """
    if model.task == "segmentation":
        return encode(segmentation(source, answer["mask"], model))
    return encode(report(source, int(answer["class_id"]), answer["probabilities"], model))


def encode(dataset: Dataset) -> bytes:
    """The content of a DICOM file (PS3.10) that holds `dataset`."""
    file = io.BytesIO()
    with quiet():
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def segmentation(source: SourceImage, mask: np.ndarray, model: Model) -> Dataset:
    """Makes a Segmentation Storage instance; segment and frame k are class k, even if empty.

    It has the source's Rows × Columns, zero outside of the region, and the same UIDs for the same
    source and model.

    Args:
        source: The image.
        mask: Classes, uint8 of the height and width of the source's region; 0 is background.
        model: Who made the mask.

    Raises:
        ValueError: The mask holds a class that the model does not have, or has another size.
    """
    if mask.max() >= len(model.classes):
        raise ValueError(f"mask has class {mask.max()}, the model has {len(model.classes)}")
    with quiet():
        result = seg.Segmentation(
            source_images=[evidence(source)],
            pixel_array=source.in_file(mask),
            segmentation_type=seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_segments(model),
            series_number=_SEG_SERIES,
            device_serial_number=model.weights_digest,
            content_label="SEGMENTATION",
            content_description=model.intended_use,
            omit_empty_frames=False,
            **instance_identity(source, model, "SEG"),
        )
        result.PatientOrientation = ""
        _place(result, source)
        dimensions = hashed_uid("dimensions", result.SOPInstanceUID)  # highdicom takes a random one
        for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
            item.DimensionOrganizationUID = dimensions
        refer_to_original(result, source)
    return result


def _place(result: Dataset, source: SourceImage) -> None:
    """The functional groups by which viewers lay a mask on its image.

    An image of ultrasound has no place in the patient: it lies at the origin of a plane of its own.
    Where it is not calibrated a pixel is taken for a millimetre, as viewers want one; each segment
    then says so.
    """
    measures, orientation, position = Dataset(), Dataset(), Dataset()
    measures.SliceThickness = measures.SpacingBetweenSlices = 1  # readers want it; there is none
    measures.PixelSpacing = [DSfloat(side, auto_format=True) for side in source.spacing or (1, 1)]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    position.ImagePositionPatient = [0, 0, 0]
    shared = (*result.get("SharedFunctionalGroupsSequence", ()), Dataset())[0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    result.SharedFunctionalGroupsSequence = [shared]
    for frame in result.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence = [copy.deepcopy(position)]
    if source.spacing is None:
        for segment in result.SegmentSequence:
            segment.SegmentDescription = UNCALIBRATED


def _segments(model: Model) -> list[seg.SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=model.name,
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version,
        source=MANUFACTURER,
        parameters={"weights": model.weights_digest, "training data": model.fingerprint},
    )
    structure = codes.cid7150.AnatomicalStructure
    concept = codes.cid7150.SpatialAndRelationalConcept
    return [
        seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=structure if organ(name) else concept,
            segmented_property_type=organ(name) or own(name),
            algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*colour(number)),
        )
        for number, name in enumerate(model.classes[1:], start=1)
    ]


def report(source: SourceImage, class_id: int, probabilities: np.ndarray, model: Model) -> Dataset:
    """Makes a Comprehensive SR instance, partial and unverified.

    Its UIDs are the same for the same source and model.

    Args:
        source: The image.
        class_id: The class, an index of the model's `classes`: the qualitative evaluation.
        probabilities: Of all classes in that order, float [K] 0…1: measurements, six decimals.
        model: Who made the answer.
    """
    with quiet():
        image = evidence(source)
        content = _content(source, image, class_id, probabilities, model)
        identity = instance_identity(source, model, "SR")
        result = sr.ComprehensiveSR([image], content, series_number=_SR_SERIES, **identity)
        refer_to_original(result, source)
    return result


def _content(
    source: SourceImage, image: Dataset, class_id: int, probabilities: np.ndarray, model: Model
) -> sr.MeasurementReport:
    answer, weights = model.classes[class_id], f"weights {model.weights_digest}"
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=hashed_uid("device", model.name, model.version, model.weights_digest, SOFTWARE),
        name=f"{model.name} {model.version}",
        manufacturer_name=MANUFACTURER,
    )
    frames = [source.frame + 1] if source.frames > 1 else None
    sop_class = source.header["SOPClassUID"]
    top, left, height, width = source.region
    bottom, right = top + height, left + width
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=hashed_uid("tracking", image.SOPInstanceUID, f"{source.frame}"),
            identifier="image",
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            parameters=[model.intended_use, weights, f"training data {model.fingerprint}"],
            manufacturer=MANUFACTURER,
        ),
        measurements=[
            sr.Measurement(own(f"Probability of {name}"), round(float(p), 6), codes.UCUM.NoUnits)
            for name, p in zip(model.classes, probabilities, strict=True)
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(own("Class of the image"), organ(answer) or own(answer))
        ],
        referenced_region=sr.ImageRegion(  # what the model saw; viewers show a report by its region
            sr.GraphicTypeValues.POLYLINE,
            np.array(corners, float),
            sr.SourceImageForRegion(sop_class, image.SOPInstanceUID, frames),
        ),
    )
    observer = sr.ObserverContext(codes.cid270.Device, device)
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[group],
    )


def overlay(pixels: np.ndarray, mask: np.ndarray, classes: tuple[str, ...]) -> bytes:
    """Outlines on the image, and below it a legend with a line a class.

    Args:
        pixels: Gray levels, uint8 [H, W].
        mask: Classes, uint8 of its height and width; 0 is not drawn.
        classes: Names of all classes, background first.

    Returns:
        A PNG in colour, W pixels wide and 14 more a class than H high.
    """
    height, width = pixels.shape
    sheet = Image.new("RGB", (width, height + _LINE * (len(classes) - 1)))
    sheet.paste(Image.fromarray(outline(pixels, mask)))
    draw = ImageDraw.Draw(sheet)
    for label, name in enumerate(classes[1:], start=1):
        draw.text((2, height + _LINE * (label - 1)), name, fill=colour(label))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
