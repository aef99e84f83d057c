"""A header parsed from memory equals pydicom's header of the file."""

import io

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tf_dicom_ce.dicom import part10
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.refusals import Refusal

FILES = ("examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_palette.dcm", "MR_small.dcm")


def parsed(content):
    with quiet():
        opened = part10.parse(io.BytesIO(content))
    return opened.header, opened.pixels


@pytest.mark.parametrize("name", FILES)
def test_elements_are_pydicoms(name):
    path = get_testdata_file(name, download=False)
    with open(path, "rb") as file:  # noqa: PTH123 - pydicom gives a string
        content = file.read()
    header, pixels = parsed(content)
    assert content[pixels.offset - 12 : pixels.offset - 8] == b"\xe0\x7f\x10\x00"
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
    header, _ = parsed(content)
    expected = dcmread(io.BytesIO(content), stop_before_pixels=True)
    assert header == Dataset(expected)
    assert header.StudyDescription == "Schilddrüse"


def test_equal_elements_are_converted_once(build, ramp):
    one, two = (
        parsed(written(build, ramp, False, False, PatientID=name))[0] for name in ("A", "B")
    )
    assert one["Rows"] is two["Rows"]
    assert (one.PatientID, two.PatientID) == ("A", "B")
    # The same bytes mean something else in another character set.
    latin = written(
        build, ramp, False, False, SpecificCharacterSet="ISO_IR 100", StudyDescription="äö"
    )
    greek = latin.replace(b"ISO_IR 100", b"ISO_IR 126")
    assert [parsed(content)[0].StudyDescription for content in (latin, greek)] == ["äö", "δφ"]


def test_large_elements_are_left_out(build, ramp):
    content = written(build, ramp, False, False, TextValue="x" * ((1 << 18) + 2))
    header, _ = parsed(content)
    assert "TextValue" not in header
    assert header.Rows == 20


@pytest.mark.parametrize("implicit", [False, True])
def test_whatever_is_cut_or_unusual_is_read_from_the_file(build, ramp, implicit):
    content = written(build, ramp, implicit, True)
    start, end = content.index(b"\x08\x00"), parsed(content)[1].offset
    for size in range(start, end, 7):
        cut = part10.parse(io.BytesIO(content[:size]))
        assert isinstance(cut, Refusal) or cut.pixels is None
    this, other = (b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0")[:: 1 if implicit else -1]
    misnamed, place = content.replace(this, other), len(other) - len(this)
    length = content.index(this) - 2
    misnamed = misnamed[:length] + len(other).to_bytes(2, "little") + misnamed[length + 2 :]
    header, pixels = parsed(misnamed)
    assert pixels.offset == end + place
    assert header.original_encoding == (implicit, True)
    assert header == Dataset(parsed(content)[0])
    damaged = bytearray(content)
    damaged[start : start + 4] = b"\xff\xff\x00\x00"
    with quiet():
        expected = dcmread(io.BytesIO(damaged), stop_before_pixels=True)
        assert parsed(bytes(damaged))[0] == Dataset(expected)
