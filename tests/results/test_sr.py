"""A class and its probabilities come back from their SR, which says where they are from."""

import dataclasses
import io

import highdicom
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file

from tf_dicom_ce.results.files import encode, report
from tf_dicom_ce.results.source import open_image

PROBABILITIES = np.array([0.1, 0.65, 0.25], np.float32)


def read(result):
    return highdicom.sr.srread(io.BytesIO(encode(result)))


def group_of(result):
    (group,) = read(result).content.get_planar_roi_measurement_groups()
    return group


def test_reads_back(write, ramp, classifier):
    group = group_of(report(open_image(write("a", ramp)), 1, PROBABILITIES, classifier))
    (evaluation,) = group.get_qualitative_evaluations()
    assert evaluation.name.meaning == "Class of the image"
    assert evaluation.value.meaning == "good"
    assert evaluation.value.scheme_designator == "99TFDICOMCE"
    measurements = group.get_measurements()
    assert [m.name.meaning for m in measurements] == [
        "Probability of poor",
        "Probability of good",
        "Probability of übrig",
    ]
    assert [m.value for m in measurements] == [0.1, 0.65, 0.25]
    assert {m.unit.value for m in measurements} == {"1"}


def test_the_region_is_what_the_model_saw(write, ramp, classifier, dciodvfy):
    """Columns before rows, from the corner of a pixel to that of the one beyond the last."""
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = 2, 17
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = 5, 28
    source = open_image(write("a", ramp, SequenceOfUltrasoundRegions=[item]))
    result = report(source, 1, PROBABILITIES, classifier)
    assert dciodvfy(result, "ComprehensiveSR") == []
    region = group_of(result).roi
    assert region.graphic_type.value == "POLYLINE"
    np.testing.assert_array_equal(region.value, [[5, 2], [29, 2], [29, 18], [5, 18], [5, 2]])


def test_an_organ_has_its_snomed_code(write, ramp, classifier):
    organs = dataclasses.replace(classifier, classes=("kidney", "liver", "other"))
    group = group_of(report(open_image(write("a", ramp)), 1, PROBABILITIES, organs))
    (evaluation,) = group.get_qualitative_evaluations()
    assert (evaluation.value.value, evaluation.value.scheme_designator) == ("10200004", "SCT")


def test_says_by_whom_and_that_nobody_has_checked(write, ramp, classifier):
    source = open_image(write("a", ramp))
    result = read(report(source, 2, PROBABILITIES, classifier))
    assert result.SOPClassUID.keyword == "ComprehensiveSRStorage"
    assert (result.CompletionFlag, result.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert result.StudyInstanceUID == source.header["StudyInstanceUID"]
    assert result.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert result.SeriesDescription.startswith("Research use only")
    content = encode(result).decode(errors="replace")
    parts = ("quality", "12", "Research use only", "training data c0ffee", "übrig")
    for part in (*parts, f"weights {'c1' * 32}"):
        assert part in content


def test_a_missing_probability_is_an_error(write, ramp, classifier):
    with pytest.raises(ValueError, match="zip"):
        report(open_image(write("a", ramp)), 0, PROBABILITIES[:2], classifier)


@pytest.mark.parametrize("frame", [0, 2])
def test_a_frame_of_a_cine_is_named(cine, classifier, dciodvfy, frame):
    source = open_image(cine(), frame=frame)
    result = report(source, 1, PROBABILITIES, classifier)
    assert dciodvfy(result, "ComprehensiveSR") == []
    region = group_of(result).roi
    (image,) = region.ContentSequence[0].ReferencedSOPSequence
    assert image.ReferencedSOPInstanceUID == source.header["SOPInstanceUID"]
    assert image.ReferencedFrameNumber == frame + 1
    ((study, _, instance, sop_class),) = read(result).get_evidence()
    assert (study, instance) == (source.header["StudyInstanceUID"], source.header["SOPInstanceUID"])
    assert image.ReferencedSOPClassUID == sop_class == "1.2.840.10008.5.1.4.1.1.3.1"


@pytest.mark.parametrize(
    "name",
    [
        "examples_rgb_color.dcm",
        "examples_palette.dcm",
        "examples_jpeg2k.dcm",
        "examples_ybr_color.dcm",
        "ExplVR_BigEnd.dcm",
    ],
)
def test_real_files_give_valid_reports(name, classifier, dciodvfy):
    source = open_image(get_testdata_file(name))
    assert dciodvfy(report(source, 0, PROBABILITIES, classifier), "ComprehensiveSR") == []
