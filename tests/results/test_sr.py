"""A class and its probabilities come back from their SR, which says where they are from."""

import dataclasses
import io
import subprocess
from xml.etree import ElementTree

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.sr.codedict import codes

from tf_dicom_ce.results.files import dicom_bytes, write_dicom
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.source import open_image

PROBABILITIES = np.array([0.1, 0.65, 0.25], np.float32)


def report(source, class_id, probabilities, model):
    """The SR of one frame, as it is read."""
    answer = {"class_id": class_id, "probabilities": probabilities}
    finding = Finding.of(source, answer, model)
    return pydicom.dcmread(io.BytesIO(dicom_bytes("sr", source, finding, model)))


def encode(dataset):
    """The content of its file."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(result):
    return highdicom.sr.srread(io.BytesIO(encode(result)))


def group_of(result):
    (group,) = read(result).content.get_planar_roi_measurement_groups()
    return group


def test_reads_back(write, ramp, classifier):
    """The class and its certainty by standard codes, in per cent; the probability of each class."""
    group = group_of(report(open_image(write("a", ramp)), 1, PROBABILITIES, classifier))
    assert (group.finding_type.meaning, group.finding_type.scheme_designator) == (
        "good",
        "99TFDICOMCE",
    )
    certainty, *probabilities = group.get_measurements()
    assert certainty.name == codes.DCM.CertaintyOfFinding
    assert (certainty.value, certainty.unit.value) == (65, "%")
    assert [m.name.meaning for m in probabilities] == [
        "Probability of poor",
        "Probability of good",
        "Probability of übrig",
    ]
    assert [m.value for m in probabilities] == [0.1, 0.65, 0.25]
    assert {m.unit.value for m in probabilities} == {"1"}


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
    organs = dataclasses.replace(classifier, classes=("kidney", "liver", "other"), codes=())
    group = group_of(report(open_image(write("a", ramp)), 1, PROBABILITIES, organs))
    assert group.finding_type == codes.SCT.Liver


def test_says_by_whom_and_that_nobody_has_checked(write, ramp, classifier):
    source = open_image(write("a", ramp))
    result = read(report(source, 2, PROBABILITIES, classifier))
    assert result.SOPClassUID.keyword == "ComprehensiveSRStorage"
    assert (result.CompletionFlag, result.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert result.StudyInstanceUID == source.header["StudyInstanceUID"]
    assert result.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert result.SeriesDescription.startswith("Research use only")
    content = encode(result).decode(errors="replace")
    parts = ("quality", "12", "Research use only", "training data c0ffee", "übrig")
    for part in (*parts, f"weights {'c1' * 32}"):
        assert part in content


def test_a_missing_probability_is_an_error(write, ramp, classifier):
    with pytest.raises(ValueError, match="2 probabilities, 3 classes"):
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


@pytest.fixture
def dsr2xml(tmp_path, program):
    """What DCMTK reads in a report: of every group its name, finding, frame and numbers."""
    tool = program("dsr2xml", "dcmtk")

    def groups(content):
        path = tmp_path / "result.dcm"
        path.write_bytes(content)
        done = subprocess.run([tool, "+Wt", path], capture_output=True)
        assert done.returncode == 0, done.stderr
        found = []
        for group in ElementTree.fromstring(done.stdout).iter("container"):
            if group.findtext("concept/value") != "125007":  # Measurement Group
                continue
            numbers = {
                number.findtext("concept/meaning"): (
                    float(number.findtext("value")),
                    number.findtext("unit/value"),
                )
                for number in group.iter("num")
            }
            names = [text.findtext("value") for text in group.iter("text")]
            codes = {
                code.findtext("concept/meaning"): code.findtext("meaning")
                for code in group.iter("code")
            }
            found.append((names[0], codes, numbers, group.findtext(".//image/value/frames")))
        return found

    return groups


def calibrated(cine, **elements):
    """A cine of 20 × 30 pixels of 2 × 1 mm; its region begins at row 2 and column 5."""
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = 2, 19
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = 5, 29
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.1, 0.2
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return cine(SequenceOfUltrasoundRegions=[item])


def rectangles():
    """Liver of 3 × 8 pixels, then 6 × 8 pixels; in the second frame there is no kidney."""
    masks = np.zeros((2, 18, 25), np.uint8)
    masks[0, 2:5, 3:11], masks[0, 10:14, 12:18] = 1, 2
    masks[1, 2:8, 3:11] = 1
    return masks


def measured(path, model, kind="sr"):
    """The file of the rectangles as frames 1 and 3."""
    sources = [open_image(path, frame=k) for k in (0, 2)]
    findings = [
        Finding.of(source, {"mask": mask}, model)
        for source, mask in zip(sources, rectangles(), strict=True)
    ]
    file = io.BytesIO()
    write_dicom(file, kind, sources[0], findings, model)
    return file.getvalue()


def test_what_is_measured_in_another_program(cine, segmenter, dsr2xml, dciodvfy):
    """6 × 8 mm have a diagonal of 10 mm, 12 × 8 mm and 8 × 6 mm likewise by hand."""
    content = measured(calibrated(cine), segmenter)
    assert dciodvfy(pydicom.dcmread(io.BytesIO(content)), "ComprehensiveSR") == []

    def numbers(height, width):
        diagonal = np.hypot(height, width)
        return {
            "Area": (height * width / 100, "cm2"),
            "Long axis": (round(diagonal, 3), "mm"),
            "Perpendicular Axis": (round(2 * height * width / diagonal, 3), "mm"),
        }

    absent = {"Found in the image region": "Absent"}
    assert dsr2xml(content) == [
        ("liver", {"Finding": "Liver"}, numbers(6, 8), "1"),
        ("Kidney", {"Finding": "Kidney"}, numbers(8, 6), "1"),
        ("cyst, simple", {"Finding": "cyst, simple", **absent}, {}, "1"),
        ("liver", {"Finding": "Liver"}, numbers(12, 8), "3"),
        ("Kidney", {"Finding": "Kidney", **absent}, {}, "3"),
        ("cyst, simple", {"Finding": "cyst, simple", **absent}, {}, "3"),
    ]


def test_what_is_not_calibrated_has_a_share_alone(cine, segmenter, dsr2xml):
    content = measured(calibrated(cine, PhysicalUnitsXDirection=4), segmenter)
    (_, _, first, _), (_, _, second, _), *_ = dsr2xml(content)
    assert first == {"Share of the image region": (round(24 / 450, 6), "1")}
    assert second == {"Share of the image region": (round(24 / 450, 6), "1")}


def test_a_region_is_the_border_in_the_picture(cine, segmenter):
    """Columns before rows, of the whole image: the region begins at column 5 and row 2."""
    content = measured(calibrated(cine), segmenter)
    report = highdicom.sr.srread(io.BytesIO(content))
    group, *others = report.content.get_planar_roi_measurement_groups()
    expected = [[8, 4], [16, 4], [16, 7], [8, 7], [8, 4]]
    np.testing.assert_array_equal(group.roi.value, expected)
    absent = others[-1].roi.value  # what the model saw
    np.testing.assert_array_equal(absent, [[5, 2], [30, 2], [30, 20], [5, 20], [5, 2]])
    assert len({group.tracking_uid for group in (group, *others)}) == 6


def test_the_report_names_the_seg(cine, segmenter):
    path = calibrated(lambda **elements: cine(SeriesInstanceUID="1.2.4", **elements))
    seg = pydicom.dcmread(io.BytesIO(measured(path, segmenter, "seg")))
    report = highdicom.sr.srread(io.BytesIO(measured(path, segmenter)))
    source = pydicom.dcmread(path)
    assert report.get_evidence() == [
        (one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID, one.SOPClassUID)
        for one in (source, seg)
    ]


@pytest.mark.parametrize("number", ["6", "3"])
def test_a_retired_class_is_named(cine, write, ramp, segmenter, number):
    """Ultrasound before 1995, a still and a cine; also in groups beyond the first."""
    retired = {"SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{number}"}
    source = open_image(cine(**retired) if number == "3" else write("a", ramp, **retired))
    finding = Finding.of(source, {"mask": np.full((20, 30), 1, np.uint8)}, segmenter)
    report = pydicom.dcmread(io.BytesIO(dicom_bytes("sr", source, finding, segmenter)))
    named = [e.value for e in report.iterall() if e.keyword == "ReferencedSOPClassUID"]
    assert named.count(retired["SOPClassUID"]) == len(named) - 1 == 4  # three groups, evidence; SEG
