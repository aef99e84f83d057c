"""A mask comes back from its SEG pixel by pixel, and the SEG says where it is from."""

import io

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.data import get_testdata_file

from tf_dicom_ce.results.files import write_dicom
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.segmentation import UNCALIBRATED
from tf_dicom_ce.results.source import open_image

ULTRASOUND_FILES = (
    "examples_rgb_color.dcm",
    "examples_palette.dcm",
    "examples_jpeg2k.dcm",
    "examples_ybr_color.dcm",
    "ExplVR_BigEnd.dcm",
)


def read(result):
    """As highdicom reads it."""
    file = io.BytesIO()
    result.save_as(file, enforce_file_format=True)
    return highdicom.seg.segread(io.BytesIO(file.getvalue()))


def some_mask(shape=(20, 30), classes=4):
    return np.random.default_rng(3).integers(0, classes, shape, np.uint8)


def regional(write, ramp, **elements):
    """A file whose region is rows 2 to 18 and columns 5 to 28."""
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = 2, 17
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = 5, 28
    return write("a", ramp, SequenceOfUltrasoundRegions=Sequence([item]), **elements)


def test_reads_back_pixel_by_pixel(write, ramp, segmenter, segmentation):
    mask = some_mask((16, 24))
    result = read(segmentation(open_image(regional(write, ramp)), mask, segmenter))
    expected = np.zeros((20, 30), np.uint8)
    expected[2:18, 5:29] = mask
    assert result.pixel_array.shape == (3, 20, 30)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(result.pixel_array[number - 1], expected == number)
    uids = [result.SourceImageSequence[0].ReferencedSOPInstanceUID]
    combined = result.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(combined[0], expected)


def test_an_empty_mask_keeps_every_segment(write, ramp, segmenter, segmentation):
    result = read(
        segmentation(open_image(write("a", ramp)), np.zeros((20, 30), np.uint8), segmenter)
    )
    assert [item.SegmentLabel for item in result.SegmentSequence] == list(segmenter.classes[1:])
    assert result.pixel_array.shape == (3, 20, 30)
    assert not result.pixel_array.any()


def test_a_class_too_many_is_refused(write, ramp, segmenter, segmentation):
    with pytest.raises(ValueError, match="class 4"):
        segmentation(open_image(write("a", ramp)), np.full((20, 30), 4, np.uint8), segmenter)


def test_says_what_and_by_whom(write, ramp, segmenter, segmentation):
    path = write("a", ramp, StudyDescription="LIVER", AccessionNumber="A7", StudyDate="20200229")
    source = open_image(path)
    result = read(segmentation(source, some_mask(), segmenter))
    header = source.header
    assert result.SOPClassUID.keyword == "SegmentationStorage"
    assert result.SegmentationType == "BINARY"
    assert result.StudyInstanceUID == header["StudyInstanceUID"]
    assert (result.PatientID, result.StudyDescription) == ("P1", "LIVER")
    assert (result.AccessionNumber, result.StudyDate) == ("A7", "20200229")
    codes = [item.SegmentedPropertyTypeCodeSequence[0] for item in result.SegmentSequence]
    assert [(c.CodeValue, c.CodingSchemeDesignator) for c in codes[:2]] == [
        ("10200004", "SCT"),
        ("64033007", "SCT"),
    ]
    assert (codes[2].CodeMeaning, codes[2].CodingSchemeDesignator) == (
        "cyst, simple",
        "99TFDICOMCE",
    )
    for item in result.SegmentSequence:
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = item.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("segmentation", "3")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
        parameters = algorithm.AlgorithmParameters
        assert "training data=c0ffee" in parameters and f"weights={'5e' * 32}" in parameters
    assert result.DeviceSerialNumber == segmenter.weights_digest
    assert result.ContentDescription == "Research use only; trained on synthetic images"
    assert result.SeriesDescription.startswith("Research use only")
    assert result.ContentQualification == "RESEARCH"


@pytest.mark.parametrize("frame", [0, 2])
def test_a_frame_of_a_cine_is_named(cine, segmenter, frame, segmentation):
    source = open_image(cine(), frame=frame)
    result = read(segmentation(source, some_mask(), segmenter))
    references = [
        item.DerivationImageSequence[0].SourceImageSequence[0]
        for item in result.PerFrameFunctionalGroupsSequence
    ]
    for reference in (*references, *result.SourceImageSequence):
        assert reference.ReferencedSOPClassUID.keyword == "UltrasoundMultiFrameImageStorage"
        assert reference.ReferencedSOPInstanceUID == source.header["SOPInstanceUID"]
        assert reference.ReferencedFrameNumber == frame + 1
    (series,) = result.ReferencedSeriesSequence
    (instance,) = series.ReferencedInstanceSequence
    assert instance.ReferencedSOPClassUID.keyword == "UltrasoundMultiFrameImageStorage"
    assert "ReferencedFrameNumber" not in instance
    assert result.InstanceNumber == 1


def test_a_single_frame_is_not_numbered(write, ramp, segmenter, segmentation):
    result = segmentation(open_image(write("a", ramp, InstanceNumber=17)), some_mask(), segmenter)
    assert not [e for e in result.iterall() if e.keyword == "ReferencedFrameNumber"]
    assert result.InstanceNumber == 17


def of_all_frames(path, masks, model, frames=None):
    """The SEG of a cine's frames, as highdicom reads it."""
    sources = [open_image(path, frame=k) for k in frames or range(len(masks))]
    findings = [
        Finding.of(source, {"mask": mask}, model)
        for source, mask in zip(sources, masks, strict=True)
    ]
    file = io.BytesIO()
    write_dicom(file, "seg", [(sources[0], findings)], model)
    file.seek(0)
    return highdicom.seg.segread(file)


def test_a_cine_has_one_seg(write, segmenter, dciodvfy):
    """Of 5 × 7 pixels, so that frames begin within bytes; each names its frame of the source."""
    pixels = np.arange(3 * 35, dtype=np.uint8).reshape(3, 5, 7)
    cine = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "NumberOfFrames": 3}
    path = write("cine", pixels[0], PixelData=pixels.tobytes(), **cine)
    masks = [np.random.default_rng(k).integers(0, 4, (5, 7), np.uint8) for k in range(3)]
    result = of_all_frames(path, masks, segmenter)
    assert dciodvfy(result, "Segmentation") == []
    expected = [mask == k for mask in masks for k in (1, 2, 3)]
    np.testing.assert_array_equal(result.pixel_array, expected)
    uid = pydicom.dcmread(path).SOPInstanceUID
    combined = result.get_pixels_by_source_frame(uid, [1, 2, 3], combine_segments=True)
    np.testing.assert_array_equal(combined, masks)
    places = [
        (
            frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber,
            frame.PlanePositionSequence[0].ImagePositionPatient,
            frame.FrameContentSequence[0].DimensionIndexValues,
        )
        for frame in result.PerFrameFunctionalGroupsSequence
    ]
    assert places == [(k, [0, 0, k - 1], [s, k]) for k in (1, 2, 3) for s in (1, 2, 3)]
    assert "ReferencedFrameNumber" not in result.SourceImageSequence[0]  # they are all


def test_some_frames_of_a_cine(cine, segmenter):
    path, masks = cine(), [some_mask(), some_mask()[::-1]]
    result = of_all_frames(path, masks, segmenter, frames=(0, 2))
    assert result.SourceImageSequence[0].ReferencedFrameNumber == [1, 3]
    uid = pydicom.dcmread(path).SOPInstanceUID
    combined = result.get_pixels_by_source_frame(uid, [1, 3], combine_segments=True)
    np.testing.assert_array_equal(combined, masks)
    all_of_them = of_all_frames(path, [*masks, masks[0]], segmenter)
    assert all_of_them.SOPInstanceUID != result.SOPInstanceUID


def test_white_is_black_no_more(write, ramp, segmenter, segmentation):
    """MONOCHROME1 turns the pixels, not the mask."""
    source = open_image(write("a", ramp, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(source.pixels, 255 - ramp)
    result = read(segmentation(source, some_mask(), segmenter))
    assert result.PhotometricInterpretation == "MONOCHROME2"
    np.testing.assert_array_equal(result.pixel_array[0], some_mask() == 1)


@pytest.mark.parametrize("name", ULTRASOUND_FILES)
def test_real_files_give_valid_segs(name, segmenter, dciodvfy, segmentation):
    path = get_testdata_file(name)
    source = open_image(path)
    mask = some_mask(source.pixels.shape)
    result = segmentation(source, mask, segmenter)
    assert dciodvfy(result, "Segmentation") == []
    top, left, height, width = source.region
    expected = np.zeros(source.shape, np.uint8)
    expected[top : top + height, left : left + width] = mask
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read(result).pixel_array[number - 1], expected == number)
    reference = result.SourceImageSequence[0]
    original = pydicom.dcmread(path, stop_before_pixels=True)
    assert reference.ReferencedSOPClassUID == original.SOPClassUID
    assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID


def test_a_frame_of_a_cine_gives_a_valid_seg(cine, segmenter, dciodvfy, segmentation):
    source = open_image(cine(), frame=2)
    assert dciodvfy(segmentation(source, some_mask(), segmenter), "Segmentation") == []


def calibrated(write, ramp, **elements):
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = 2, 17
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = 5, 28
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.03, -0.05
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return open_image(write("a", ramp, SequenceOfUltrasoundRegions=Sequence([item])))


def test_a_calibrated_region_gives_the_size_of_a_pixel(write, ramp, segmenter, segmentation):
    """cm to mm, height before width; viewers fail without these functional groups."""
    source = calibrated(write, ramp)
    assert source.spacing == pytest.approx((0.5, 0.3))
    result = read(segmentation(source, some_mask((16, 24)), segmenter))
    (shared,) = result.SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.3]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    for frame in result.PerFrameFunctionalGroupsSequence:
        assert frame.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]
    assert all("SegmentDescription" not in item for item in result.SegmentSequence)


@pytest.mark.parametrize(
    "elements",
    [
        {"PhysicalUnitsXDirection": 4},  # seconds
        {"PhysicalUnitsYDirection": 0},
        {"PhysicalDeltaX": 0.0},
        {"PhysicalDeltaY": float("nan")},
    ],
)
def test_what_is_not_calibrated_says_so(write, ramp, segmenter, dciodvfy, elements, segmentation):
    source = calibrated(write, ramp, **elements)
    assert source.spacing is None
    result = segmentation(source, some_mask((16, 24)), segmenter)
    assert dciodvfy(result, "Segmentation") == []
    (shared,) = read(result).SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [1, 1]
    assert {item.SegmentDescription for item in result.SegmentSequence} == {UNCALIBRATED}


def test_without_a_region_nothing_is_calibrated(write, ramp):
    assert open_image(write("a", ramp)).spacing is None


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_ct_and_mr_lie_where_their_headers_say(name, segmenter, dciodvfy, segmentation):
    path = get_testdata_file(name)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    source = open_image(path, frozenset({header.SOPClassUID}))
    result = segmentation(source, some_mask(source.pixels.shape), segmenter)
    assert dciodvfy(result, "Segmentation") == []
    (shared,) = result.SharedFunctionalGroupsSequence
    (orientation,), (measures,) = shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    assert orientation.ImageOrientationPatient == header.ImageOrientationPatient
    assert measures.PixelSpacing == header.PixelSpacing
    assert result.FrameOfReferenceUID == header.FrameOfReferenceUID
    for frame in result.PerFrameFunctionalGroupsSequence:
        assert frame.PlanePositionSequence[0].ImagePositionPatient == header.ImagePositionPatient
    assert result.SourceImageSequence[0].ReferencedSOPClassUID == header.SOPClassUID
    found = Finding.of(source, {"mask": np.ones(source.pixels.shape, np.uint8)}, segmenter)
    height, width = np.array(source.pixels.shape) * header.PixelSpacing
    assert found.measured[0].area_cm2 == pytest.approx(height * width / 100, abs=1e-3)
