"""The quick scan finds what pydicom finds, or leaves the file to it."""

import io

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tf_dicom_ce.dicom import file_meta
from tf_dicom_ce.dicom.scanning import scan

FILES = ("examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_palette.dcm", "MR_small.dcm")


def scanned(content, implicit=False, largest=1 << 20):
    return scan(content, file_meta.parse(content).end, implicit, largest)


@pytest.mark.parametrize("name", FILES)
def test_elements_are_pydicoms(name):
    path = get_testdata_file(name, download=False)
    with open(path, "rb") as file:  # noqa: PTH123 - pydicom gives a string
        content = file.read()
    header, end = scanned(content)
    assert content[end : end + 4] == b"\xe0\x7f\x10\x00"
    expected = dcmread(path, stop_before_pixels=True)
    assert list(header.keys()) == list(expected.keys())
    assert header == Dataset(expected)
    assert header.original_character_set == expected.original_character_set


def written(build, pixels, implicit, undefined, **elements):
    dataset = build(pixels, **elements)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "T-62000", "Liver"
    inner.is_undefined_length_sequence_item = undefined
    outer = Dataset()
    outer.ConceptCodeSequence = Sequence([inner, inner])
    outer["ConceptCodeSequence"].is_undefined_length = undefined
    outer.is_undefined_length_sequence_item = undefined
    dataset.ProcedureCodeSequence = Sequence([outer, Dataset(), outer])
    dataset["ProcedureCodeSequence"].is_undefined_length = undefined
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100"])
def test_nested_sequences_and_character_sets(build, ramp, implicit, undefined, charset):
    elements = {"SpecificCharacterSet": charset, "StudyDescription": "Schilddrüse"}
    content = written(build, ramp, implicit, undefined, **elements)
    header, _ = scanned(content, implicit)
    expected = dcmread(io.BytesIO(content), stop_before_pixels=True)
    assert header == Dataset(expected)
    assert header.StudyDescription == "Schilddrüse"


def test_equal_elements_are_converted_once(build, ramp):
    one, two = (
        scanned(written(build, ramp, False, False, PatientID=name))[0] for name in ("A", "B")
    )
    assert one["Rows"] is two["Rows"]
    assert (one.PatientID, two.PatientID) == ("A", "B")
    # The same bytes mean something else in another character set.
    latin = written(
        build, ramp, False, False, SpecificCharacterSet="ISO_IR 100", StudyDescription="äö"
    )
    greek = latin.replace(b"ISO_IR 100", b"ISO_IR 126")
    assert [scanned(content)[0].StudyDescription for content in (latin, greek)] == ["äö", "δφ"]


def test_large_elements_are_left_out(build, ramp):
    content = written(build, ramp, False, False, PatientComments="x" * 1000)
    header, _ = scanned(content, largest=999)
    assert "PatientComments" not in header
    assert header.Rows == 20


@pytest.mark.parametrize("implicit", [False, True])
def test_whatever_is_cut_or_unusual_is_left_to_pydicom(build, ramp, implicit):
    content = written(build, ramp, implicit, True)
    start, end = file_meta.parse(content).end, scanned(content, implicit)[1]
    for size in range(start, end + 8, 7):
        assert scanned(content[:size], implicit) is None
    assert scanned(content, not implicit) is None
    damaged = bytearray(content)
    damaged[start : start + 4] = b"\xff\xff\x00\x00"
    assert scanned(bytes(damaged), implicit) is None
