"""Appendix A.1 and the default schema, row by row."""

import csv
import importlib.resources
import logging
import pickle
import warnings

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from tf_dicom_ce.dicom.reader import ULTRASOUND
from tf_dicom_ce.tags.schema import TagSchema

# Typed from the paper's tables, apart from the file that the package reads.
APPENDIX = """
US BIOPSY LIVER NONFOCAL: liver,abdomen
US BIOPSY LIVER FOCAL: liver,abdomen
US LYMPH NODE BIOPSY: soft tissue,nodule
US BIOPSY KIDNEY NONFOCAL (EITHER SIDE): kidney,abdomen
US PARACENTESIS THERAPEUTIC: abdomen,drainage
US BIOPSY TRANSPLANTED KIDNEY: kidney,abdomen
US PARACENTESIS DIAGNOSTIC AND THERAPEUTIC: abdomen,drainage
US THYROID BIOPSY: thyroid,nodule
US PARACENTESIS DIAGNOSTIC: abdomen,drainage
US THORACENTESIS DIAGNOSTIC AND THERAPEUTIC: chest,drainage
US THYROID ASPIRATION/FNA: thyroid,nodule
US DRAINAGE INTERVENTION NOT OTHERWISE SPECIFIED: soft tissue,drainage
US DRAINAGE ABDOMEN: abdomen,drainage
US DRAINAGE GALLBLADDER (CHOLECYSTOSTOMY): abdomen,drainage
US THORACENTESIS THERAPEUTIC (RIGHT): chest,drainage
US THORACENTESIS THERAPEUTIC (LEFT): chest,drainage
US BIOPSY MESENTERY: abdomen,drainage,soft tissue
US NECK SOFT TISSUE BIOPSY: soft tissue,nodule
US DRAINAGE CATHETER PLACEMENT: soft tissue,drainage
US DRAINAGE PELVIS: abdomen,drainage
US SOFT TISSUE BIOPSY: soft tissue,nodule
US BIOPSY KIDNEY NONFOCAL (LEFT): kidney,abdomen
US CHEST TUBE PLACEMENT (RIGHT): chest,drainage
US BIOPSY NOT OTHERWISE SPECIFIED: soft tissue,nodule,drainage
US ABDOMINAL PELVIC BIOPSY NOT OTHERWISE SPECIFIED: soft tissue,nodule,drainage
US CHEST TUBE PLACEMENT (LEFT): chest,drainage
CT BIOPSY LIVER FOCAL: liver,abdomen
US BIOPSY KIDNEY FOCAL (LEFT): liver,abdomen
US ASPIRATION ABDOMINAL COLLECTION: abdomen,drainage
CT LYMPH NODE BIOPSY: soft tissue,nodule
US DRAINAGE LIVER: liver,drainage,abdomen
US BIOPSY RETROPERITONEUM: abdomen
US LYMPH NODE ASPIRATION/FNA: soft tissue,nodule,drainage
US SOFT TISSUE ASPIRATION: soft tissue,drainage
US ASPIRATION PELVIS: abdomen,drainage
US THORACENTESIS DIAGNOSTIC (RIGHT): chest,drainage
US THORACENTESIS DIAGNOSTIC (LEFT): chest,drainage
US DRAINAGE KIDNEY/PARARENAL (RIGHT): abdomen,kidney,drainage
US HEAD/NECK INTERVENTION NOT OTHERWISE SPECIFIED: soft tissue
US BIOPSY KIDNEY FOCAL (RIGHT): kidney,abdomen
CT ABDOMINAL PELVIC BIOPSY NOT OTHERWISE SPECIFIED: abdomen
US DRAINAGE KIDNEY/PARARENAL (LEFT): kidney,abdomen
IR PARACENTESIS (THERAPEUTIC): abdomen,drainage
US PSEUDOANEURYSM THROMBIN INJECTION: soft tissue,nodule
"""
GROUPS = ("liver", "kidney", "thyroid", "abdomen", "chest", "soft tissue", "nodule", "drainage")
PROBES = ("linear", "curvilinear")  # of the paper


def header(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def encode(schema, dataset):
    return schema.encode(schema.read(dataset))


def labels(schema, dataset):
    y = encode(schema, dataset).y
    return {label for label, on in zip(schema.labels, y, strict=True) if on}


@pytest.fixture(scope="module")
def default():
    return TagSchema.load("ultrasound")


@pytest.fixture(scope="module")
def paper():
    return TagSchema.load("ultrasound-paper")


def rows():
    return [tuple(line.rsplit(": ", 1)) for line in APPENDIX.strip().splitlines()]


def test_appendix_has_44_rows():
    path = importlib.resources.files("tf_dicom_ce.tags") / "study_descriptions.csv"
    with path.open(newline="") as file:
        shipped = [(row["value"], row["labels"]) for row in csv.DictReader(file)]
    assert shipped == rows()
    assert len(shipped) == 44


@pytest.mark.parametrize(("value", "groups"), rows())
def test_paper_schema_is_the_appendix(paper, value, groups):
    assert labels(paper, header(StudyDescription=value)) == set(groups.split(","))


@pytest.mark.parametrize(("value", "groups"), rows())
def test_default_schema_corrects_two_rows(default, value, groups):
    if value == "US BIOPSY KIDNEY FOCAL (LEFT)":
        groups = "kidney,abdomen"
    if value == "US DRAINAGE KIDNEY/PARARENAL (LEFT)":
        groups = "kidney,abdomen,drainage"
    assert labels(default, header(StudyDescription=value)) == set(groups.split(","))


@pytest.mark.parametrize(("name", "more"), [("ultrasound", ("phased",)), ("ultrasound-paper", ())])
def test_shape_of_y(name, more):
    schema = TagSchema.load(name)
    assert schema.labels == GROUPS + PROBES + more
    assert len(schema.labels) == 10 + len(more)
    assert schema.sop_classes == ULTRASOUND
    encoding = encode(
        schema, header(StudyDescription="US BIOPSY LIVER FOCAL", TransducerData="SL10-2")
    )
    assert (encoding.y.dtype, encoding.present.dtype) == (np.float32, np.bool_)
    np.testing.assert_array_equal(encoding.y, [1, 0, 0, 1, 0, 0, 0, 0, 1, 0] + [0] * len(more))
    assert encoding.present.all()


def test_paper_knows_three_probes_and_nothing_else(paper):
    assert labels(paper, header(TransducerData="SC6-1")) == {"curvilinear"}
    assert labels(paper, header(TransducerData="SL10-2")) == {"linear"}
    assert labels(paper, header(TransducerData="SL15-4")) == {"linear"}
    other = encode(paper, header(TransducerData="C5-1", TransducerType="LINEAR"))
    assert other.states["probe"] == ("unmapped", "C5-1")
    assert encode(paper, header(StudyDescription="US CHEST")).states["study"][0] == "unmapped"
    assert paper.elements == ("StudyDescription", "TransducerData")


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ("US CHEST/LUNG", "chest"),
        ("US Chest Limited", "chest"),
        ("US CHEST WALL/SOFT TISSUE", "soft tissue"),
        ("US ABDOMINAL WALL", "soft tissue"),
        ("Thyroid US", "thyroid"),
        ("US THYROID/NECK", "thyroid"),
        ("US FNA THYROID LEFT", "thyroid,nodule"),
        ("US ABDOMEN LIMITED LIVER", "liver,abdomen"),
        ("US LIVER AND KIDNEYS", "liver,kidney,abdomen"),
        ("US RENAL", "kidney,abdomen"),
        ("US DRAINAGE RENAL CYST", "kidney,abdomen,drainage"),
        ("US ABDOMEN COMPLETE", "abdomen"),
        ("US GALLBLADDER", "abdomen"),
        ("US PELVIS", "abdomen"),
        ("US GUIDED THORACENTESIS", "chest,drainage"),
        ("US PARACENTESIS", "abdomen,drainage"),
        ("US EXTREMITY NON VASCULAR", "soft tissue"),
        ("US BREAST LIMITED", "soft tissue"),
        ("TRANSTHORACIC ECHO", ""),
        ("Echocardiogram", ""),
        ("US VENOUS DOPPLER LOWER EXTREMITY", ""),
        ("US CAROTID", ""),
    ],
)
def test_patterns_for_study_descriptions(default, value, groups):
    encoding = encode(default, header(StudyDescription=value))
    assert encoding.states["study"] == ("mapped", value)
    assert encoding.present[:8].all()
    assert labels(default, header(StudyDescription=value)) == set(groups.split(",")) - {""}


@pytest.mark.parametrize(
    "value", ["US GUIDED INTERVENTION", "PEDIATRIC", "US Dopler", "ADRENAL", "PARATHYROID"]
)
def test_vague_descriptions_stay_unmapped(default, value):
    encoding = encode(default, header(StudyDescription=value))
    assert encoding.states["study"] == ("unmapped", value)
    assert not encoding.y.any()
    assert not encoding.present.any()


@pytest.mark.parametrize(
    ("value", "geometry"),
    [
        *((v, {"curvilinear"}) for v in ("SC6-1", "C5-1", "C1-6", "C5_1", "6C1 HD", "4C-RS")),
        *((v, {"linear"}) for v in ("SL10-2", "L12_5", "ML6-15", "6L3", "9L-RS", "eL18-4")),
        *((v, {"phased"}) for v in ("S5-1", "S5_1", "P4-2", "X5-1", "4V1c-S", "M5Sc-D")),
        *((v, set()) for v in ("C9-4v", "C10_4ec", "3D9-3v", "IC5-9-D", "RIC6-12", "E8C", "EV8C4")),
        (["C5-1", "UNUSED", "UNUSED"], {"curvilinear"}),
        (["9d", "6L3"], {"linear"}),
        (["UNUSED", "L12_5", "C5-1"], {"linear"}),
    ],
)
def test_patterns_for_probes(default, value, geometry):
    encoding = encode(default, header(TransducerData=value))
    assert encoding.states["probe"][0] == "mapped"
    assert encoding.present[8:].all()
    assert labels(default, header(TransducerData=value)) == geometry


@pytest.mark.parametrize("value", ["9d", "X-RAY", "50.80.103.002", "54629"])
def test_unknown_probes_stay_unmapped(default, value):
    assert encode(default, header(TransducerData=value)).states["probe"] == ("unmapped", value)


@pytest.mark.parametrize(
    ("elements", "state"),
    [
        ({}, ("missing", "")),
        ({"TransducerData": ""}, ("empty", "")),
        ({"TransducerData": ["", " "]}, ("empty", "")),
        ({"TransducerData": ["UNUSED", "", "unused"]}, ("ignored", "UNUSED\\unused")),
        ({"TransducerData": ["", "51", "52"]}, ("unmapped", "51\\52")),
        ({"TransducerType": "LINEAR"}, ("mapped", "LINEAR")),
        ({"TransducerType": "SECTOR_PHASED"}, ("mapped", "SECTOR_PHASED")),
        ({"TransducerType": "ENDOCAV_CLA"}, ("mapped", "ENDOCAV_CLA")),
        ({"TransducerData": "", "TransducerType": "LINEAR"}, ("mapped", "LINEAR")),
        ({"TransducerData": "C5-1", "TransducerType": "LINEAR"}, ("mapped", "C5-1")),
        ({"TransducerData": "", "TransducerType": "ODD"}, ("unmapped", "ODD")),
        ({"TransducerType": ""}, ("empty", "")),
    ],
)
def test_states(default, elements, state):
    encoding = encode(default, header(**elements))
    assert encoding.states["probe"] == state
    assert encoding.present[8:].all() == (state[0] == "mapped")


@pytest.mark.parametrize(
    ("value", "untidy"),
    [
        ("US BIOPSY LIVER FOCAL", False),
        ("  us biopsy liver focal", True),
        ("US BIOPSY  LIVER FOCAL", True),
        ("Us Biopsy Liver Focal", True),
        ("US CHEST", False),
        ("  us chest", True),
    ],
)
def test_untidy_values_map_and_are_told(default, value, untidy):
    encoding = encode(default, header(StudyDescription=value))
    assert encoding.states["study"] == ("mapped", value)
    assert encoding.untidy == (("study",) if untidy else ())


def test_damaged_element_counts_as_unmapped_in_silence(default, tmp_path, write, ramp, caplog):
    path = write("a", ramp)
    content = path.read_bytes()
    at = content.index(b"\x20\x00\x0d\x00UI")
    # A sequence in the place of text, of an undecodable value representation.
    element = b"\x18\x00\x10\x50UL\x03\x00ABC\x00"[:-1]
    path.write_bytes(content[:at] + element + content[at:])
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        values = default.read(dcmread(path, stop_before_pixels=True))
    encoding = default.encode(values)
    assert encoding.states["probe"] == ("unmapped", "(damaged)")
    assert "ABC" not in caplog.text


def test_schema_and_values_survive_pickling(default):
    """Workers receive and return them that way."""
    assert pickle.loads(pickle.dumps(default)) == default
    values = default.read(header(StudyDescription="US CHEST", TransducerData=["C5-1", "UNUSED"]))
    assert pickle.loads(pickle.dumps(values)) == values
    assert values == {
        "StudyDescription": ("US CHEST",),
        "TransducerData": ("C5-1", "UNUSED"),
        "TransducerType": None,
    }


def test_values_may_be_replaced(default):
    values = default.read(header(StudyDescription="odd"))
    encoding = default.encode({**values, "StudyDescription": ("US CHEST",)})
    assert encoding.states["study"] == ("mapped", "US CHEST")
    assert default.encode({}).states == {"study": ("missing", ""), "probe": ("missing", "")}
