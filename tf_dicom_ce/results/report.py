"""A DICOM Structured Report on a study: classes and probabilities, or what was measured."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import (
    Comprehensive3DSRStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from tf_dicom_ce.results.codes import own
from tf_dicom_ce.results.evidence import (
    check_agreement,
    evidence,
    hashed_uid,
    identity,
    instance_number,
    mend,
    model_uid,
    name_classes,
    put_encoded,
    uid_of,
    write_part10,
)
from tf_dicom_ce.results.finding import Examined, Finding
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


class Former(NamedTuple):
    """The UIDs of a report that a new one takes the place of."""

    study: str
    series: str
    instance: str


def write_report(
    file: BinaryIO, images: Sequence[Examined], model: Model, former: Sequence[Former] = ()
) -> None:
    """Writes a Comprehensive 3D SR instance (TID 1500) of an image, or of several of one study.

    It is complete and unverified.

    Of a classification it has a measurement group (TID 1410) for each image and frame: the class
    with its certainty, and the probability of every class. Of a segmentation it has one for each
    image, frame and class: area, longest and perpendicular diameter, or the share of the region
    where the image is not calibrated; or that the class was not found. Each has the familiarity of
    the image, where the head tells it. Its evidence is the images, their SEGs and, if there are
    several, their SRs. Predecessor Documents Sequence names the reports on fewer images of the
    study, for it has their content (PS3.3, C.17.2). UIDs are the same for the same images, frames,
    model and former reports, whatever the order of the images.

    Args:
        file: Open for writing, empty.
        images: Of one study and patient; at least one.
        model: Who answered.
        former: Reports of the study that this one takes the place of.

    Raises:
        ContradictionError: See `check_agreement`.
    """
    images = sorted(images, key=_order)
    named = [evidence(source) for source, _ in images]
    check_agreement(named)
    groups = _groups(images, model)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=model_uid(model), name=f"{model.name} {model.version}", manufacturer_name=MANUFACTURER
    )
    observer = sr.ObserverContext(codes.cid270.Device, device)
    _, first = next(groups)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[first],
    )
    if model.task == "segmentation":
        named += [_result(image, model, "SEG", SegmentationStorage) for image in images]
    if len(images) > 1:
        named += [_result(image, model, "SR", Comprehensive3DSRStorage) for image in images]
    who = identity(images, model, "SR", *(one.instance for one in former))
    if former:
        who["previous_versions"] = [_named(Comprehensive3DSRStorage, *one) for one in former]
    result = sr.Comprehensive3DSR(named, content, series_number=_SERIES, is_complete=True, **who)
    mend(result, images)
    (measurements,) = (
        item
        for item in result.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.ImagingMeasurements.value
    )
    (encoded,) = measurements.ContentSequence

    def items() -> Iterator[Dataset]:
        yield encoded
        for source, group in groups:
            for item in group:
                name_classes(item, [source])
                yield item

    # As bytes: as data sets, the groups of a long cine would fill the memory.
    put_encoded(measurements, Tag("ContentSequence"), items())
    write_part10(file, result)


def _order(image: Examined) -> tuple[str, int, str]:
    """Where an image stands in a report: by series, then as its machine numbered it."""
    source, _ = image
    series, instance = (uid_of(source, f"{what}InstanceUID") for what in ("Series", "SOP"))
    return series, instance_number(source) or 0, instance


def _result(image: Examined, model: Model, kind: str, sop_class: str) -> Dataset:
    """What names a result of an image alone."""
    who, study = identity([image], model, kind), uid_of(image[0], "StudyInstanceUID")
    return _named(sop_class, study, who["series_instance_uid"], who["sop_instance_uid"])


def _named(sop_class: str, study: str, series: str, instance: str) -> Dataset:
    named = Dataset()
    named.SOPClassUID, named.SOPInstanceUID = sop_class, instance
    named.StudyInstanceUID, named.SeriesInstanceUID = study, series
    return named


def _groups(
    images: Sequence[Examined], model: Model
) -> Iterator[tuple[SourceImage, sr.PlanarROIMeasurementsAndQualitativeEvaluations]]:
    """The measurement groups, each with the image that it is about."""
    said = _of_mask if model.task == "segmentation" else _of_classes
    for source, findings in images:
        for finding in findings:
            for group in said(source, finding, model):
                yield source, group


def _of_classes(
    source: SourceImage, finding: Finding, model: Model
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """The group of a classification; its region is what the model saw."""
    certainty = round(100 * finding.values[finding.class_id], 4)
    probabilities = (
        sr.Measurement(own(f"Probability of {name}"), value, codes.UCUM.NoUnits)
        for name, value in zip(model.classes, finding.values, strict=True)
    )
    found = codes.DCM.CertaintyOfFinding, certainty, codes.UCUM.Percent
    yield _group(
        (source, finding, model),
        "region",
        _rectangle(finding),
        finding_type=model.codes[finding.class_id].code,
        measurements=[sr.Measurement(*found), *probabilities],
    )


def _of_mask(
    source: SourceImage, finding: Finding, model: Model
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """A group for each class of a segmentation; its region is the border of the largest part.

    Of a class without a pixel it is what the model saw.
    """
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
        yield _group((source, finding, model), name, border, **said)


def _group(
    of: tuple[SourceImage, Finding, Model], name: str, border: np.ndarray, **said
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """What is said of a region of a frame; viewers show a report by its regions."""
    source, finding, model = of
    if finding.familiarity is not None:
        measured = sr.Measurement(_FAMILIARITY, finding.familiarity, codes.UCUM.NoUnits)
        said = {**said, "measurements": [*said.get("measurements", ()), measured]}
    frames = [finding.frame + 1] if source.frames > 1 else None
    # highdicom knows current classes alone; `name_classes` puts the true one.
    sop_class = UltrasoundMultiFrameImageStorage if frames else UltrasoundImageStorage
    image, number = uid_of(source, "SOPInstanceUID"), instance_number(source)
    # A reader of the report alone is to know which image it is.
    words = [name, number and f"image {number}", frames and f"frame {frames[0]}"]
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=hashed_uid("tracking", image, f"{finding.frame}", name),
            identifier=", ".join(filter(None, words)),
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
            sr.SourceImageForRegion(sop_class, image, frames),
        ),
        **said,
    )


def _rectangle(finding: Finding) -> np.ndarray:
    """The border of the region, columns and rows, from the corner of the image."""
    top, left, height, width = finding.region
    bottom, right = top + height, left + width
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
