"""A class and its probabilities as a DICOM Structured Report after TID 1500."""

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.results import concepts
from tf_dicom_ce.results.evidence import (
    evidence,
    instance_identity,
    is_cine,
    original_class,
    refer_to_original,
)
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import Source
from tf_dicom_ce.results.uids import hashed_uid

_SERIES_NUMBER = 9002


def report(source: Source, class_id: int, probabilities: np.ndarray, model: Model) -> Dataset:
    """Makes a Comprehensive SR instance, partial and unverified.

    Args:
        source: The image.
        class_id: The class, an index of the model's `classes`: the qualitative evaluation.
        probabilities: Of all classes in that order, float [K] 0…1: measurements, six decimals.
        model: Who made the answer.

    Returns:
        The instance; its UIDs are the same for the same source and model.
    """
    with quiet():
        image = evidence(source)
        result = ComprehensiveSR(
            evidence=[image],
            content=_content(source, image, class_id, probabilities, model),
            series_number=_SERIES_NUMBER,
            **instance_identity(source, model, "SR"),
        )
        refer_to_original(result, source)
    return result


def _content(
    source: Source, image: Dataset, class_id: int, probabilities: np.ndarray, model: Model
) -> MeasurementReport:
    answer = model.classes[class_id]
    device = DeviceObserverIdentifyingAttributes(
        uid=hashed_uid(
            "device", model.name, model.version, model.weights_digest, concepts.SOFTWARE
        ),
        name=f"{model.name} {model.version}",
        manufacturer_name=concepts.MANUFACTURER,
    )
    frames = [source.frame + 1] if is_cine(source) else None
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=hashed_uid("tracking", image.SOPInstanceUID, f"{source.frame}"),
            identifier="image",
        ),
        algorithm_id=AlgorithmIdentification(
            name=model.name,
            version=model.version,
            parameters=[
                concepts.intended_use(model),
                f"weights {model.weights_digest}",
                f"training data {model.fingerprint}",
            ],
            manufacturer=concepts.MANUFACTURER,
        ),
        measurements=[
            Measurement(
                name=concepts.own(f"Probability of {name}"),
                value=round(float(probability), 6),
                unit=codes.UCUM.NoUnits,
            )
            for name, probability in zip(model.classes, probabilities, strict=True)
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(
                name=concepts.own("Class of the image"),
                value=concepts.organ(answer) or concepts.own(answer),
            )
        ],
        source_images=[
            SourceImageForMeasurementGroup(original_class(source), image.SOPInstanceUID, frames)
        ],
    )
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.cid270.Device, device)
        ),
        procedure_reported=codes.SCT.Ultrasonography,
        imaging_measurements=[group],
    )
