"""Odd headers give valid results all the same, and only what belongs there gets into them."""

import dataclasses
import io
import logging
import re
import time

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.dataelem import DataElement

from tf_dicom_ce import __version__
from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.results.evidence import made_up_uids, uid_of
from tf_dicom_ce.results.files import dicom_bytes
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.source import SourceImage, open_image

MASK = np.arange(600).astype(np.uint8).reshape(20, 30) % 4
PROBABILITIES = np.array([0.1, 0.65, 0.25])
DEVICE = re.compile(r"Device Observer UID.*?\(0040,A124\) UID +UI: (\S+)", re.DOTALL)


@pytest.fixture
def both(segmenter, classifier, segmentation, report):
    """A SEG and an SR of a source."""

    def make(source):
        seg = segmentation(source, MASK, segmenter)
        return seg, report(source, 1, PROBABILITIES, classifier)

    return make


def changed(path, change):
    """Rewrites a file after `change` of its data set, without pydicom's checks."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)
    # Numbers that pydicom would not make.
    content = path.read_bytes().replace(b"IS\x06\x0055555 ", b"IS\x06\x00first ")
    path.write_bytes(content.replace(b"DS\x06\x0044444 ", b"DS\x06\x00large "))
    return path


def raw(tag, vr, value):
    """An element whose value is what no writer should write."""
    return DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)


def nothing_of_the_patient(dataset):
    for keyword in ("PatientID", "StudyInstanceUID"):
        delattr(dataset, keyword)


def malformed(dataset):
    dataset[0x00100030] = raw(0x00100030, "DA", "19ABCDEF")
    dataset[0x00080020] = raw(0x00080020, "DA", "2020")
    dataset[0x00080030] = raw(0x00080030, "TM", "noon")
    dataset[0x00100040] = raw(0x00100040, "CS", "female?")
    dataset.InstanceNumber = 55555
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "44444"
    dataset[0x00200010] = raw(0x00200010, "SH", "ID\0\x07 5")
    dataset[0x00100020] = raw(0x00100020, "LO", "A\\B")


def wrong_character_set(dataset):
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset[0x00100010] = raw(0x00100010, "PN", b"M\xfcller^J\xf6rg")


def unknown_character_set(dataset):
    dataset[0x00080005] = raw(0x00080005, "CS", "EBCDIC 500")
    dataset[0x00100010] = raw(0x00100010, "PN", b"M\xfcller")


def lossy(dataset):
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = [10, 2.5]
    dataset.LossyImageCompressionMethod = ["ISO_10918_1", "ISO_15444_1"]


def old_date(dataset):
    dataset[0x00100030] = raw(0x00100030, "DA", "1950.12.31")
    dataset[0x00080030] = raw(0x00080030, "TM", "12:30:05")


def private(dataset):
    block = dataset.private_block(0x0011, "VENDOR", create=True)
    item = Dataset()
    item.PatientComments = "LEAK-1"
    block.add_new(1, "SQ", Sequence([item]))
    block.add_new(2, "LO", "LEAK-2")
    nested = Dataset()
    nested.PatientID = "LEAK-3"
    nested.private_block(0x0013, "VENDOR", create=True).add_new(1, "LO", "LEAK-4")
    dataset.OtherPatientIDsSequence = [nested]
    dataset.InstitutionName = "LEAK-5"
    dataset.PatientAddress = "LEAK-6"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, as the files are made
@pytest.mark.parametrize(
    "change",
    [
        nothing_of_the_patient,
        malformed,
        wrong_character_set,
        unknown_character_set,
        lossy,
        old_date,
        private,
    ],
)
@pytest.mark.parametrize("many", [False, True], ids=["single", "cine"])
def test_odd_headers_give_valid_results(write, cine, ramp, both, dciodvfy, change, many):
    path = changed(cine() if many else write("a", ramp), change)
    seg, sr = both(open_image(path))
    assert dciodvfy(seg, "Segmentation") == []
    assert dciodvfy(sr, "Comprehensive3DSR") == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_malformed_is_left_empty(write, ramp, both):
    for result in both(open_image(changed(write("a", ramp), malformed))):
        assert not result.PatientBirthDate
        assert not result.StudyDate
        assert not result.StudyTime
        assert result.PatientSex == ""
        assert result.InstanceNumber == 1
        assert (result.StudyID, result.PatientID) == ("ID 5", "A")


def test_old_dates_are_written_as_today(write, ramp, both):
    for result in both(open_image(changed(write("a", ramp), old_date))):
        assert (result.PatientBirthDate, result.StudyTime) == ("19501231", "123005")


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 144", "Люк^Х"), ("ISO_IR 192", "山田^太郎")],
)
def test_names_become_unicode(write, ramp, both, encoding, name, encode):
    path = write("a", ramp, SpecificCharacterSet=encoding, PatientName=name)
    for result in both(open_image(path)):
        back = pydicom.dcmread(io.BytesIO(encode(result)))
        assert back.SpecificCharacterSet == "ISO_IR 192"
        assert back.PatientName == name


def test_a_mask_of_a_lossy_image_says_so(write, ramp, both):
    seg, _ = both(open_image(changed(write("a", ramp), lossy)))
    assert seg.LossyImageCompression == "01"
    assert seg.LossyImageCompressionRatio == [10, 2.5]
    assert seg.LossyImageCompressionMethod == ["ISO_10918_1", "ISO_15444_1"]


@pytest.mark.parametrize(
    ("syntax", "elements", "expected"),
    [
        ("1.2.840.10008.1.2.4.50", {}, ("01", "ISO_10918_1", 12.35)),  # baseline JPEG always loses
        ("1.2.840.10008.1.2.4.50", {"LossyImageCompressionRatio": 9}, ("01", "ISO_10918_1", 9)),
        (
            "1.2.840.10008.1.2.4.102",
            {"LossyImageCompression": "00"},
            ("01", "ISO_14496_10", 12.35),
        ),
        (
            "1.2.840.10008.1.2.4.91",
            {"LossyImageCompression": "01"},
            ("01", "ISO_15444_1", 12.35),
        ),
        ("1.2.840.10008.1.2.4.91", {}, ("00", None, None)),  # it may be without loss
        ("1.2.840.10008.1.2.1", {"LossyImageCompression": "01"}, ("01", None, None)),
        (
            "1.2.840.10008.1.2.4.50",
            {"LossyImageCompression": "01", "LossyImageCompressionRatio": [10, 2.5]},
            ("01", None, [10, 2.5]),
        ),
    ],
)
def test_transfer_syntax_and_size_tell_how_pixels_were_compressed(
    build, both, ramp, syntax, elements, expected
):
    header = build(ramp, syntax, **elements)
    frame = Frame(ramp, (), Region(0, 0, 20, 30), (20, 30), header, 12.3456)
    seg, _ = both(SourceImage.of(frame, None))
    kinds = ("", "Method", "Ratio")
    assert tuple(seg.get(f"LossyImageCompression{kind}") for kind in kinds) == expected


def test_only_what_ties_a_result_to_its_study_gets_in(write, ramp, both, encode):
    for result in both(open_image(changed(write("a", ramp), private))):
        assert b"LEAK" not in encode(result)
        assert not any(element.tag.is_private for element in result.iterall())
        assert result.PatientID == "P1"


def test_names_are_not_logged(write, ramp, both, caplog):
    with caplog.at_level(logging.WARNING):
        both(open_image(write("a", ramp, PatientName="SECRETIVE")))
    assert "SECRETIVE" not in caplog.text


def uids(result):
    """All UIDs, in order, those in sequences included."""
    return [element.value for element in result.iterall() if element.VR == "UI"]


def test_the_same_twice_has_the_same_uids(cine, both):
    path = cine()
    for first, second in zip(both(open_image(path)), both(open_image(path)), strict=True):
        assert uids(first) == uids(second)
        assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID


def test_other_frames_models_and_kinds_have_others(cine, both, segmenter, segmentation):
    path = cine()
    seg, sr = both(open_image(path, frame=0))
    other_frame = segmentation(open_image(path, frame=1), MASK, segmenter)
    newer = dataclasses.replace(segmenter, version="4")
    other_model = segmentation(open_image(path, frame=0), MASK, newer)
    results = (seg, sr, other_frame, other_model)
    assert len({result.SOPInstanceUID for result in results}) == 4
    assert len({result.SeriesInstanceUID for result in results}) == 4


def test_other_weights_and_another_version_of_the_package_have_others(
    cine, both, segmenter, classifier, monkeypatch, segmentation, report
):
    """Two heads of one name and version, trained on the same data with other seeds."""
    source = open_image(cine(), frame=0)

    def results(weights):
        models = (dataclasses.replace(m, weights_digest=weights) for m in (segmenter, classifier))
        masks, classes = models
        return segmentation(source, MASK, masks), report(source, 1, PROBABILITIES, classes)

    seg, sr = results("aa" * 32)
    assert [uids(result) for result in results("aa" * 32)] == [uids(seg), uids(sr)]
    newer = results("bb" * 32)
    monkeypatch.setattr("tf_dicom_ce.results.evidence.SOFTWARE", "tf_dicom_ce 99")
    other = results("aa" * 32)
    for k, kind in enumerate((seg, sr)):
        three = (kind, newer[k], other[k])
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert len({result[keyword].value for result in three}) == 3
    devices = [DEVICE.findall(str(result)) for result in (sr, newer[1], other[1])]
    assert len(set(map(tuple, devices))) == 3 and all(devices)


def test_software_versions_say_the_model_its_weights_and_the_package(
    write, ramp, both, dciodvfy, segmenter, classifier, encode
):
    source = open_image(write("a", ramp))
    models = (segmenter, "Segmentation"), (classifier, "Comprehensive3DSR")
    for result, (model, kind) in zip(both(source), models, strict=True):
        assert dciodvfy(result, kind) == []
        back = pydicom.dcmread(io.BytesIO(encode(result)))
        assert list(back[0x00181020].value) == [
            *(model.version, model.weights_digest, f"tf_dicom_ce {__version__}"),
        ]
        assert all(len(value) <= 64 for value in back[0x00181020].value)  # LO


def test_every_result_is_a_series_of_its_own(write, ramp, segmenter, segmentation):
    """Viewers show one instance of a series."""
    series = {"SeriesInstanceUID": "1.2.3"}
    a, b = (segmentation(open_image(write(name, ramp, **series)), MASK, segmenter) for name in "ab")
    assert len({a.SeriesInstanceUID, b.SeriesInstanceUID, "1.2.3"}) == 3


def test_the_same_answer_is_the_same_file(cine, segmenter, classifier):
    """Also at another time: nothing of today stands in it."""
    source = open_image(cine(ContentDate="20200102", ContentTime="030405"))
    finding = Finding.of(source, {"mask": MASK}, segmenter)
    for kind in ("seg", "sr"):
        content = dicom_bytes(kind, source, finding, segmenter)
        time.sleep(1.1)
        assert dicom_bytes(kind, source, finding, segmenter) == content
        result = pydicom.dcmread(io.BytesIO(content))
        assert (result.ContentDate, result.ContentTime) == ("20200102", "030405")


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"StudyDate": "20200229", "StudyTime": "101112"}, ("20200229", "101112")),
        ({"StudyDate": "20200229", "StudyTime": ""}, ("20200229", "000000")),
        ({"StudyDate": "", "StudyTime": "101112"}, ("19000101", "000000")),
    ],
)
def test_a_content_without_a_date_has_that_of_the_study(write, ramp, both, elements, expected):
    for result in both(open_image(write("a", ramp, **elements))):
        assert (result.ContentDate, result.ContentTime) == expected


def test_time_zone_and_what_hid_the_patient_are_carried_over(write, ramp, both, dciodvfy):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    elements = {
        "TimezoneOffsetFromUTC": "+0930",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "by hand",
        "LongitudinalTemporalInformationModified": "REMOVED",
    }
    path = write("a", ramp, DeidentificationMethodCodeSequence=Sequence([code]), **elements)
    for result, kind in zip(
        both(open_image(path)), ("Segmentation", "Comprehensive3DSR"), strict=True
    ):
        assert dciodvfy(result, kind) == []
        assert {keyword: result[keyword].value for keyword in elements} == elements
        (found,) = result.DeidentificationMethodCodeSequence
        assert (found.CodeValue, found.CodingSchemeDesignator) == ("113100", "DCM")
    bare = write("b", ramp, TimezoneOffsetFromUTC="Z", PatientIdentityRemoved="MAYBE")
    for result in both(open_image(bare)):
        assert not {*elements, "DeidentificationMethodCodeSequence"} & set(result.dir())


def test_made_up_uids_are_told_and_stay(write, ramp, both):
    path = write("a", ramp, SeriesInstanceUID="1.2.3")
    assert made_up_uids(open_image(path)) == ()
    changed(path, lambda dataset: delattr(dataset, "StudyInstanceUID"))
    source = open_image(path)
    assert made_up_uids(source) == ("StudyInstanceUID",)
    seg, sr = both(source)
    assert seg.StudyInstanceUID == sr.StudyInstanceUID
    assert pydicom.uid.UID(seg.StudyInstanceUID).is_valid


def test_the_instance_uid_may_stand_in_the_file_meta_only(write, ramp, both):
    path = write("a", ramp, SeriesInstanceUID="1.2.3")
    content = path.read_bytes()
    uid = pydicom.dcmread(path).SOPInstanceUID
    # Rename the element in the data set, not in the file meta information.
    start = content.index(b"\x08\x00\x18\x00UI")
    path.write_bytes(content[:start] + b"\x08\x00\x19\x00UI" + content[start + 6 :])
    source = open_image(path)
    assert "SOPInstanceUID" not in pydicom.dcmread(path)
    assert made_up_uids(source) == ()
    seg, _ = both(source)
    assert seg.SourceImageSequence[0].ReferencedSOPInstanceUID == uid


TAGS = {
    "SOPInstanceUID": 0x00080018,
    "SeriesInstanceUID": 0x0020000E,
    "StudyInstanceUID": 0x0020000D,
}


def with_uids(path, **uids):
    """Rewrites a file with UIDs that no writer should write."""

    def change(dataset):
        for keyword, uid in uids.items():
            dataset[TAGS[keyword]] = raw(TAGS[keyword], "UI", uid)

    return changed(path, change)


def told(result):
    """What the result says of this package's part in it."""
    items = result.ContributingEquipmentSequence
    return [i.ContributionDescription for i in items if i.Manufacturer == "tf_dicom_ce"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "uid", ["999.1.2", "82.31.007", "1.40.3", "1.2.03", "1.2.", "1.2.x", "7", "1." + "2" * 63]
)
@pytest.mark.parametrize("keyword", TAGS)
def test_illegal_uids_are_replaced_and_told(write, ramp, both, dciodvfy, keyword, uid):
    good = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": "1.2.5"}
    source = open_image(with_uids(write("a", ramp), **{**good, keyword: uid}))
    assert made_up_uids(source) == (keyword,)
    other = uid_of(source, keyword)
    for result, kind in zip(both(source), ("Segmentation", "Comprehensive3DSR"), strict=True):
        assert dciodvfy(result, kind) == []
        repeated = {**good, keyword: other}
        assert result.StudyInstanceUID == repeated["StudyInstanceUID"]
        assert {repeated["SeriesInstanceUID"], repeated["SOPInstanceUID"]} < set(uids(result))
        words = f"{keyword} {uid} of the source is illegal: {other} stands for it."
        assert told(result) == [words]


@pytest.mark.parametrize("uid", ["0.39.0", "1.0.5", "2.25.3", "2.999.1", "1.2." + "3" * 60])
def test_odd_but_legal_uids_stay(write, ramp, both, uid):
    path = with_uids(write("a", ramp), StudyInstanceUID=uid, SeriesInstanceUID="1.2.4")
    source = open_image(path)
    assert made_up_uids(source) == ()
    for result in both(source):
        assert result.StudyInstanceUID == uid
        assert told(result) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_images_of_an_illegal_study_stay_together(write, ramp):
    def study(name, **elements):
        path = with_uids(write(name, ramp, **elements), StudyInstanceUID="999.7")
        return uid_of(open_image(path), "StudyInstanceUID")

    assert study("a") == study("b") != study("c", PatientID="P2")


def test_a_uid_that_a_still_and_a_cine_share(write, cine, ramp, segmenter, segmentation):
    """Both results get into a PACS: an instance stands in one series."""
    shared = {"SOPInstanceUID": "1.2.5", "SeriesInstanceUID": "1.2.4"}
    paths = write("still", ramp, **shared), cine("moving", **shared)
    still, moving = (segmentation(open_image(path, frame=0), MASK, segmenter) for path in paths)
    assert still.SeriesInstanceUID != moving.SeriesInstanceUID
    assert still.SOPInstanceUID != moving.SOPInstanceUID
