"""A DICOM Structured Report on one image: classes and probabilities, or what was measured."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import (
    SegmentationStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from tf_dicom_ce.results.codes import own
from tf_dicom_ce.results.evidence import (
    encoded_sequence,
    evidence,
    hashed_uid,
    identity,
    mend,
    model_uid,
    name_class,
    write_part10,
)
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import MANUFACTURER, Model
from tf_dicom_ce.results.source import SourceImage

_SERIES = 9002
_PROCEDURE = codes.cid100.ImagingProcedure  # ultrasonography of SNOMED is a department
_MEASURES = (  # in the order of `Measured`
    (codes.SCT.Area, codes.UCUM.SquareCentimeter),
    (codes.SCT.LongAxis, codes.UCUM.Millimeter),
    (codes.SCT.PerpendicularAxis, codes.UCUM.Millimeter),
)
_FAMILIARITY = own("Familiarity of the image")
_SHARE, _FOUND = own("Share of the image region"), own("Found in the image region")


def write_report(
    file: BinaryIO, source: SourceImage, findings: Sequence[Finding], model: Model
) -> None:
    """Writes a Comprehensive SR instance (TID 1500), complete and unverified.

    It has a measurement group (TID 1410) for each frame of a classification: the class with its
    certainty, and the probability of every class. Of a segmentation there is one for each frame and
    class: area, longest and perpendicular diameter, or the share of the region where the image is
    not calibrated; or that the class was not found. Each has the familiarity of the image, where
    the head tells it. The report names the SEG, too. UIDs are the
    same for the same source, frames and model.

    Args:
        file: Open for writing, empty.
        source: The image, any frame of it.
        findings: Of its frames, in their order; at least one.
        model: Who answered.
    """
    image = evidence(source)
    grouped = _of_classes if model.task == "segmentation" else _of_frames
    groups = grouped(source, image, findings, model)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=model_uid(model), name=f"{model.name} {model.version}", manufacturer_name=MANUFACTURER
    )
    observer = sr.ObserverContext(codes.cid270.Device, device)
    first = next(groups)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[first],
    )
    named = [image]
    if model.task == "segmentation":
        named.append(_segmentation(source, image, findings, model))
    who = identity(source, findings, model, "SR")
    result = sr.ComprehensiveSR(named, content, series_number=_SERIES, is_complete=True, **who)
    mend(result, source, findings)
    (measurements,) = (
        item
        for item in result.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.ImagingMeasurements.value
    )
    (encoded,) = measurements.ContentSequence

    def items() -> Iterator[Dataset]:
        yield encoded
        for group in groups:
            for item in group:
                name_class(item, source)
                yield item

    # As bytes: as data sets, the groups of a long cine would fill the memory.
    measurements["ContentSequence"] = encoded_sequence(Tag("ContentSequence"), items())
    write_part10(file, result)


def _segmentation(
    source: SourceImage, image: Dataset, findings: Sequence[Finding], model: Model
) -> Dataset:
    """What names the SEG of the same findings."""
    who, named = identity(source, findings, model, "SEG"), Dataset()
    named.SOPClassUID, named.SOPInstanceUID = SegmentationStorage, who["sop_instance_uid"]
    named.StudyInstanceUID, named.SeriesInstanceUID = (
        image.StudyInstanceUID,
        who["series_instance_uid"],
    )
    return named


def _of_frames(
    source: SourceImage, image: Dataset, findings: Sequence[Finding], model: Model
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """A group for each frame of a classification; its region is what the model saw."""
    for finding in findings:
        certainty = round(100 * finding.values[finding.class_id], 4)
        probabilities = (
            sr.Measurement(own(f"Probability of {name}"), value, codes.UCUM.NoUnits)
            for name, value in zip(model.classes, finding.values, strict=True)
        )
        found = codes.DCM.CertaintyOfFinding, certainty, codes.UCUM.Percent
        yield _group(
            (source, image, finding, model),
            "image",
            _rectangle(finding),
            finding_type=model.codes[finding.class_id].code,
            measurements=[sr.Measurement(*found), *probabilities],
        )


def _of_classes(
    source: SourceImage, image: Dataset, findings: Sequence[Finding], model: Model
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """A group for each frame and class of a segmentation; its region is the largest part's border.

    Of a class without a pixel it is what the model saw.
    """
    for finding in findings:
        for k, name in enumerate(model.classes[1:]):
            contour, measured = finding.contours[k], finding.measured[k]
            said = {"finding_type": model.codes[k + 1].code}
            if contour is None:
                absent = sr.QualitativeEvaluation(_FOUND, codes.SCT.Absent)
                said |= {"qualitative_evaluations": [absent]}
            elif measured is None:
                share = sr.Measurement(_SHARE, finding.values[k + 1], codes.UCUM.NoUnits)
                said |= {"measurements": [share]}
            else:
                values = zip(_MEASURES, measured, strict=True)
                said |= {
                    "measurements": [
                        sr.Measurement(concept, value, unit) for (concept, unit), value in values
                    ]
                }
            border = _rectangle(finding) if contour is None else contour
            yield _group((source, image, finding, model), name, border, **said)


def _group(
    of: tuple[SourceImage, Dataset, Finding, Model], name: str, border: np.ndarray, **said
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """What is said of a region of a frame; viewers show a report by its regions."""
    source, image, finding, model = of
    if finding.familiarity is not None:
        measured = sr.Measurement(_FAMILIARITY, finding.familiarity, codes.UCUM.NoUnits)
        said = {**said, "measurements": [*said.get("measurements", ()), measured]}
    frames = [finding.frame + 1] if source.frames > 1 else None
    # highdicom knows current classes alone; `name_class` puts the true one.
    sop_class = UltrasoundMultiFrameImageStorage if frames else UltrasoundImageStorage
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=hashed_uid("tracking", image.SOPInstanceUID, f"{finding.frame}", name),
            identifier=name,
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            parameters=[
                model.intended_use,
                f"weights {model.weights_digest}",
                f"training data {model.fingerprint}",
            ],
            manufacturer=MANUFACTURER,
        ),
        referenced_region=sr.ImageRegion(
            sr.GraphicTypeValues.POLYLINE,
            border.astype(float),
            sr.SourceImageForRegion(sop_class, image.SOPInstanceUID, frames),
        ),
        **said,
    )


def _rectangle(finding: Finding) -> np.ndarray:
    """The border of the region, columns and rows, from the corner of the image."""
    top, left, height, width = finding.region
    bottom, right = top + height, left + width
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
