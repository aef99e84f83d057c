"""Spellings of elements, and what is read where."""

import re

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from tf_dicom_ce.tags.elements import parse_element

REGION = "SequenceOfUltrasoundRegions"


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("TransducerData", "TransducerData"),
        ("(0018,5010)", "TransducerData"),
        ("0018,5010", "TransducerData"),
        ("SequenceOfUltrasoundRegions.RegionDataType", f"{REGION}.RegionDataType"),
        ("(0018,6011)[0].0018,6014", f"{REGION}[0].RegionDataType"),
        ('(0019,"GEMS_US_01",1a)', '(0019,"GEMS_US_01",1A)'),
        ('(0019,"A.b [1]",01)[2].(00e1,"C",08)', '(0019,"A.b [1]",01)[2].(00E1,"C",08)'),
        ("0019,10ab", "(0019,10AB)"),
        ("6000,0040", "(6000,0040)"),
        ("6002,0040", "(6002,0040)"),
    ],
)
def test_spellings(spec, canonical):
    element = parse_element(spec)
    assert element.spec == canonical
    assert parse_element(canonical) == element


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "cannot read element ''; use a keyword of PS3.6"),
        ("Study Description", "cannot read element"),
        ("(0018,5010", "cannot read element"),
        ("0018,5010)", "cannot read element"),
        ("0018,501", "cannot read element"),
        ('(0019,"GEMS_US_01",1)', "cannot read element"),
        ("TransducerDate", "unknown element 'TransducerDate'; use a keyword"),
        ("(0018,5FFF)", "unknown element"),
        ('(0018,"GEMS_US_01",10)', "private groups are odd"),
        ("Modality.RegionDataType", "'Modality' in 'Modality.RegionDataType' is not a sequence"),
        (f"{REGION}.", "names a sequence but no element in it"),
        (f"{REGION}[0]", "name an element in it"),
        (f"{REGION}[-1].RegionDataType", "cannot read element"),
        ("TransferSyntaxUID", "is not read"),
        ("PixelData", "is not read"),
    ],
)
def test_bad_spellings(spec, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_element(spec)


def read(spec, dataset):
    return parse_element(spec).read(dataset)


def item(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def test_values_are_text():
    dataset = item(
        KVP="120.0", SeriesNumber=7, ScanningSequence=["GR", "IR"], RegionLocationMinX0=5
    )
    assert read("KVP", dataset) == ("120.0",)
    assert read("SeriesNumber", dataset) == ("7",)
    assert read("ScanningSequence", dataset) == ("GR", "IR")
    assert read("RegionLocationMinX0", dataset) == ("5",)
    assert read("StudyDescription", dataset) is None


@pytest.mark.parametrize("value", ["", None, ["", " "]])
def test_empty_has_no_values(value):
    assert read("TransducerData", item(TransducerData=value)) == ()


def test_sequences():
    regions = [item(RegionDataType=1), item(), item(RegionDataType=3), item(RegionDataType=None)]
    dataset = item(SequenceOfUltrasoundRegions=regions)
    assert read(f"{REGION}.RegionDataType", dataset) == ("1", "3")
    assert read(f"{REGION}[2].RegionDataType", dataset) == ("3",)
    assert read(f"{REGION}[3].RegionDataType", dataset) == ()
    for absent in (f"{REGION}[1].RegionDataType", f"{REGION}[9].RegionDataType"):
        assert read(absent, dataset) is None
    assert read(f"{REGION}.RegionFlags", dataset) is None
    assert read(f"{REGION}.RegionDataType", item()) is None
    assert read(f"{REGION}.RegionDataType", item(SequenceOfUltrasoundRegions=[])) is None
    assert read(REGION, dataset) == ("(sequence)",)
    assert read(REGION, item(SequenceOfUltrasoundRegions=[])) == ()


def with_private(vr="LO", value="ABDOMEN\\CARDIAC"):
    dataset = item(StudyDescription="US")
    for creator in ("OTHER", "GEMS_US_01"):
        dataset.private_block(0x0019, creator, create=True)
    dataset.private_block(0x0019, "GEMS_US_01").add_new(0x10, vr, value)
    return dataset


def test_private_elements_are_found_by_creator():
    dataset = with_private()
    assert read('(0019,"GEMS_US_01",10)', dataset) == ("ABDOMEN", "CARDIAC")
    assert read("(0019,1110)", dataset) == ("ABDOMEN", "CARDIAC")
    for absent in ('(0019,"GEMS_US_01",11)', '(0019,"OTHER",10)', '(0021,"OTHER",10)'):
        assert read(absent, dataset) is None


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (b"ABDOMEN\\CARDIAC ", ("ABDOMEN", "CARDIAC")),
        (b"Gr\xc3\xb6\xc3\x9fe\0", ("Größe",)),
        (b"\x01\x02", ("(binary)",)),
        (b"\xff\xfe", ("(binary)",)),
        (b"", ()),
    ],
)
def test_private_elements_of_unknown_representation(tmp_path, value, texts):
    dataset = with_private("UN", value)
    dataset.save_as(tmp_path / "a", implicit_vr=True, little_endian=True, enforce_file_format=False)
    file = dcmread(tmp_path / "a", force=True)
    file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert read('(0019,"GEMS_US_01",10)', file) == texts


def test_damage_is_told_apart_from_absence():
    dataset = item()
    dataset.add_new(0x00186011, "LO", "no sequence")
    assert read(f"{REGION}.RegionDataType", dataset) == ("(damaged)",)
