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

from tf_dicom_ce.results import report as report_module
from tf_dicom_ce.results import segmentation as segmentation_module
from tf_dicom_ce.results.evidence import write_part10
from tf_dicom_ce.results.files import dicom_bytes, write_dicom
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.report import Former
from tf_dicom_ce.results.source import open_image

PROBABILITIES = np.array([0.1, 0.65, 0.25], np.float32)


def read(result):
    """As highdicom reads it."""
    file = io.BytesIO()
    result.save_as(file, enforce_file_format=True)
    return highdicom.sr.srread(io.BytesIO(file.getvalue()))


def group_of(result):
    (group,) = read(result).content.get_planar_roi_measurement_groups()
    return group


def test_reads_back(write, ramp, classifier, report):
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


def test_the_region_is_what_the_model_saw(write, ramp, classifier, dciodvfy, report):
    """Columns before rows, from the corner of a pixel to that of the one beyond the last."""
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = 2, 17
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = 5, 28
    source = open_image(write("a", ramp, SequenceOfUltrasoundRegions=[item]))
    result = report(source, 1, PROBABILITIES, classifier)
    assert dciodvfy(result, "Comprehensive3DSR") == []
    region = group_of(result).roi
    assert region.graphic_type.value == "POLYLINE"
    np.testing.assert_array_equal(region.value, [[5, 2], [29, 2], [29, 18], [5, 18], [5, 2]])


def test_an_organ_has_its_snomed_code(write, ramp, classifier, report):
    organs = dataclasses.replace(classifier, classes=("kidney", "liver", "other"), codes=())
    group = group_of(report(open_image(write("a", ramp)), 1, PROBABILITIES, organs))
    assert group.finding_type == codes.SCT.Liver


def test_says_by_whom_and_that_nobody_has_checked(write, ramp, classifier, report, encode):
    source = open_image(write("a", ramp))
    result = read(report(source, 2, PROBABILITIES, classifier))
    assert result.SOPClassUID.keyword == "Comprehensive3DSRStorage"
    assert (result.CompletionFlag, result.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert result.StudyInstanceUID == source.header["StudyInstanceUID"]
    assert result.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert result.SeriesDescription.startswith("Research use only")
    content = encode(result).decode(errors="replace")
    parts = ("quality", "12", "Research use only", "training data c0ffee", "übrig")
    for part in (*parts, f"weights {'c1' * 32}"):
        assert part in content


def test_a_missing_probability_is_an_error(write, ramp, classifier, report):
    with pytest.raises(ValueError, match="2 probabilities, 3 classes"):
        report(open_image(write("a", ramp)), 0, PROBABILITIES[:2], classifier)


@pytest.mark.parametrize("frame", [0, 2])
def test_a_frame_of_a_cine_is_named(cine, classifier, dciodvfy, frame, report):
    source = open_image(cine(), frame=frame)
    result = report(source, 1, PROBABILITIES, classifier)
    assert dciodvfy(result, "Comprehensive3DSR") == []
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
def test_real_files_give_valid_reports(name, classifier, dciodvfy, report):
    source = open_image(get_testdata_file(name))
    assert dciodvfy(report(source, 0, PROBABILITIES, classifier), "Comprehensive3DSR") == []


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
    write_dicom(file, kind, [(sources[0], findings)], model)
    return file.getvalue()


def test_what_is_measured_in_another_program(cine, segmenter, dsr2xml, dciodvfy):
    """6 × 8 mm have a diagonal of 10 mm, 12 × 8 mm and 8 × 6 mm likewise by hand."""
    content = measured(calibrated(cine), segmenter)
    assert dciodvfy(pydicom.dcmread(io.BytesIO(content)), "Comprehensive3DSR") == []

    def numbers(height, width):
        diagonal = np.hypot(height, width)
        return {
            "Area": (height * width / 100, "cm2"),
            "Long axis": (round(diagonal, 3), "mm"),
            "Perpendicular Axis": (round(2 * height * width / diagonal, 3), "mm"),
        }

    absent = {"Found in the image region": "Absent"}
    assert dsr2xml(content) == [
        ("liver, frame 1", {"Finding": "Liver"}, numbers(6, 8), "1"),
        ("Kidney, frame 1", {"Finding": "Kidney"}, numbers(8, 6), "1"),
        ("cyst, simple, frame 1", {"Finding": "cyst, simple", **absent}, {}, "1"),
        ("liver, frame 3", {"Finding": "Liver"}, numbers(12, 8), "3"),
        ("Kidney, frame 3", {"Finding": "Kidney", **absent}, {}, "3"),
        ("cyst, simple, frame 3", {"Finding": "cyst, simple", **absent}, {}, "3"),
    ]


def test_what_is_encoded_is_written_as_it_is(cine, segmenter, monkeypatch):
    """Decoded, the groups of a cine of 1,000 frames would need 200 MB, and half the time again."""
    left = {}

    def write(file, dataset):
        write_part10(file, dataset)
        left[dataset.Modality] = dataset

    monkeypatch.setattr(report_module, "write_part10", write)
    monkeypatch.setattr(segmentation_module, "write_part10", write)
    for kind in ("sr", "seg"):
        measured(calibrated(cine), segmenter, kind)
    assert left["SEG"].get_item("PerFrameFunctionalGroupsSequence").is_raw
    groups = [item.get_item("ContentSequence") for item in left["SR"].ContentSequence]
    assert [group.is_raw for group in groups if group] == [True]


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


@pytest.fixture
def study(write, cine, ramp, segmenter):
    """Two images and a cine of one study, and what was found: images of 24, 48 and no pixels."""

    def images(**elements):
        of_study = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", **elements}
        second = write("a", ramp, InstanceNumber=2, ContentDate="20200102", **of_study)
        first = write("b", ramp, InstanceNumber=1, ContentDate="20200101", **of_study)
        moving = cine("c", InstanceNumber=3, ContentDate="20200101", **of_study)
        found = []
        for path, pixels in ((second, 48), (first, 24), (moving, 0)):
            mask = np.zeros((20, 30), np.uint8)
            mask[:, :24].flat[:pixels] = 1
            source = open_image(path, frame=1 if path == moving else None)
            found.append((source, [Finding.of(source, {"mask": mask}, segmenter)]))
        return found

    return images


def written(kind, images, model, former=()):
    file = io.BytesIO()
    write_dicom(file, kind, images, model, former)
    return file.getvalue()


def test_a_study_has_one_report(study, segmenter, dsr2xml, dciodvfy):
    """In the order of its images; it names each of them, its SEG and its SR."""
    images = study()
    content = written("sr", images, segmenter)
    assert dciodvfy(pydicom.dcmread(io.BytesIO(content)), "Comprehensive3DSR") == []
    share = "Share of the image region"
    groups = [group for group in dsr2xml(content) if group[1]["Finding"] == "Liver"]
    absent = {"Found in the image region": "Absent"}
    assert groups == [
        ("liver, image 1", {"Finding": "Liver"}, {share: (24 / 600, "1")}, None),
        ("liver, image 2", {"Finding": "Liver"}, {share: (48 / 600, "1")}, None),
        ("liver, image 3, frame 2", {"Finding": "Liver", **absent}, {}, "2"),
    ]
    report = highdicom.sr.srread(io.BytesIO(content))
    assert (report.ContentDate, report.InstanceNumber) == ("20200102", 1)  # the latest, the first
    still, moving = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
    expected = set()
    for (source, findings), sop_class in zip(images, (still, still, moving), strict=True):
        seg = pydicom.dcmread(io.BytesIO(written("seg", [(source, findings)], segmenter)))
        image = "1.2.4", source.header["SOPInstanceUID"], sop_class
        sr = pydicom.dcmread(io.BytesIO(written("sr", [(source, findings)], segmenter)))
        expected |= {image}
        expected |= {(r.SeriesInstanceUID, r.SOPInstanceUID, r.SOPClassUID) for r in (seg, sr)}
        (region,) = (
            group.roi.ContentSequence[0].ReferencedSOPSequence[0]
            for group in report.content.get_planar_roi_measurement_groups()
            if group.finding_type == codes.SCT.Liver
            and image[1] == group.roi.ContentSequence[0].referenced_sop_instance_uid
        )
        assert region.ReferencedSOPClassUID == sop_class
    named = report.get_evidence()
    assert len(named) == 9 and {study for study, *_ in named} == {"1.2.3"}
    assert {tuple(one) for _, *one in named} == expected


def test_a_report_names_those_that_it_takes_the_place_of(study, segmenter, dsr2xml, dciodvfy):
    """Two of one study: one item for it, with one for each series."""
    images = study()
    former = [Former("1.2.3", "1.2.6", "1.2.7"), Former("1.2.3", "1.2.8", "1.2.9")]
    content, before = written("sr", images, segmenter, former), written("sr", images, segmenter)
    assert dsr2xml(content) == dsr2xml(before)
    result = pydicom.dcmread(io.BytesIO(content))
    assert dciodvfy(result, "Comprehensive3DSR") == []
    (item,) = result.PredecessorDocumentsSequence
    assert item.StudyInstanceUID == "1.2.3"
    named = [
        (series.SeriesInstanceUID, one.ReferencedSOPInstanceUID, one.ReferencedSOPClassUID)
        for series in item.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    comprehensive_3d = "1.2.840.10008.5.1.4.1.1.88.34"
    assert named == [("1.2.6", "1.2.7", comprehensive_3d), ("1.2.8", "1.2.9", comprehensive_3d)]
    other = pydicom.dcmread(io.BytesIO(before))
    assert "PredecessorDocumentsSequence" not in other
    assert other.SOPInstanceUID != result.SOPInstanceUID


def test_the_order_of_files_and_other_images(study, segmenter):
    images = study()
    content = written("sr", images, segmenter)
    assert written("sr", images[::-1], segmenter) == content
    fewer = pydicom.dcmread(io.BytesIO(written("sr", images[:2], segmenter)))
    all_of_them = pydicom.dcmread(io.BytesIO(content))
    assert fewer.SOPInstanceUID != all_of_them.SOPInstanceUID
    assert fewer.SeriesInstanceUID != all_of_them.SeriesInstanceUID


def test_a_report_says_of_hiding_what_all_its_images_say(study, segmenter):
    images = study(PatientIdentityRemoved="YES", DeidentificationMethod="by hand")
    images[1][0].header["PatientIdentityRemoved"] = "NO"
    report = pydicom.dcmread(io.BytesIO(written("sr", images, segmenter)))
    assert "PatientIdentityRemoved" not in report
    assert report.DeidentificationMethod == "by hand"


@pytest.mark.parametrize("number", ["6", "3"])
def test_a_retired_class_is_named(cine, write, ramp, segmenter, number):
    """Ultrasound before 1995, a still and a cine; also in groups beyond the first."""
    retired = {"SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{number}"}
    source = open_image(cine(**retired) if number == "3" else write("a", ramp, **retired))
    finding = Finding.of(source, {"mask": np.full((20, 30), 1, np.uint8)}, segmenter)
    report = pydicom.dcmread(io.BytesIO(dicom_bytes("sr", source, finding, segmenter)))
    named = [e.value for e in report.iterall() if e.keyword == "ReferencedSOPClassUID"]
    assert named.count(retired["SOPClassUID"]) == len(named) - 1 == 4  # three groups, evidence; SEG
