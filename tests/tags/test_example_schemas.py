"""The examples of the documentation, on files that come with pydicom; y worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.suggestions import suspicious

DOCS = Path(__file__).parents[2] / "docs"
CT_LABELS = (
    *("head", "neck", "spine", "chest", "abdomen", "pelvis", "limb"),
    "contrast",
    *("below 90 kV", "90 to 130 kV", "from 130 kV"),
    *("soft kernel", "sharp kernel"),
)
MR_LABELS = (
    *("head", "neck", "spine", "breast", "abdomen", "pelvis", "limb"),
    "contrast",
    *("below 1 T", "1 to 2 T", "from 2 T"),
    *("spin echo", "inversion recovery", "gradient echo", "echo planar"),
    *("segmented", "steady state", "spoiled", "prepared"),
)
YES, NO = True, False


def load(name):
    return TagSchema.load(DOCS / f"tags-{name}.toml")


def encode_file(name, schema):
    path = get_testdata_file(name, download=False)
    header = dcmread(path, stop_before_pixels=True)
    assert header.SOPClassUID in schema.sop_classes
    return schema.encode(schema.read(header))


@pytest.mark.parametrize(
    ("name", "y", "present"),
    [
        # Study Description "e+1", Isovue, 120 kV, STANDARD
        ("CT_small.dcm", [0] * 7 + [1] + [0, 1, 0] + [1, 0], [NO] * 7 + [YES] * 6),
        # neither body part nor description, no agent, 140 kV, STANDARD
        ("693_J2KI.dcm", [0] * 7 + [0] + [0, 0, 1] + [1, 0], [NO] * 7 + [YES] * 6),
        # HEAD, empty agent, 120 kV, kernel 11
        (
            "J2K_pixelrep_mismatch.dcm",
            [1] + [0] * 6 + [0] + [0, 1, 0] + [0, 0],
            [YES] * 11 + [NO] * 2,
        ),
    ],
)
def test_ct(name, y, present):
    schema = load("ct")
    assert schema.labels == CT_LABELS
    encoding = encode_file(name, schema)
    np.testing.assert_array_equal(encoding.y, y)
    np.testing.assert_array_equal(encoding.present, present)


@pytest.mark.parametrize(
    ("name", "y", "present"),
    [
        # no body part, empty agent, no field strength, SE, NONE
        (
            "MR_small.dcm",
            [0] * 7 + [0] + [0] * 3 + [1, 0, 0, 0] + [0] * 4,
            [NO] * 7 + [YES] + [NO] * 3 + [YES] * 8,
        ),
        # ABDOMEN, Omniscan, 1.494 T, GR, SP
        (
            "examples_overlay.dcm",
            [0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0],
            [YES] * 19,
        ),
    ],
)
def test_mr(name, y, present):
    schema = load("mr")
    assert schema.labels == MR_LABELS
    encoding = encode_file(name, schema)
    np.testing.assert_array_equal(encoding.y, y)
    np.testing.assert_array_equal(encoding.present, present)


@pytest.mark.parametrize(
    ("schema", "value", "labels"),
    [
        ("ct", "CT CHEST/ABDOMEN/PELVIS W", {"chest", "abdomen", "pelvis"}),
        ("ct", "ABDOMENPELVIS", {"abdomen", "pelvis"}),
        ("ct", "CSPINE", {"spine"}),
        ("ct", "Thorax^1_ROUTINE", {"chest"}),
        ("ct", "HEADNECK", {"head", "neck"}),
        ("ct", "5.1_Abd_portal", {"abdomen"}),
        ("ct", "CAPSULE", set()),
        ("mr", "t2_brain_ax", {"head"}),
        ("mr", "LSPINE", {"spine"}),
        ("mr", "KNEE", {"limb"}),
        ("mr", "WHIPPLE", set()),
    ],
)
def test_regions(schema, value, labels):
    schema = load(schema)
    encoding = schema.encode({"BodyPartExamined": None, "ProtocolName": (value,)})
    assert {k for k, on in zip(schema.labels, encoding.y, strict=True) if on} == labels
    assert encoding.present[:7].all() == bool(labels)


def test_several_values():
    dataset = Dataset()
    dataset.ScanningSequence = ["GR", "IR"]
    dataset.SequenceVariant = ["SK", "SP", "MP"]
    dataset.MagneticFieldStrength = "15000"
    schema = load("mr")
    encoding = schema.encode(schema.read(dataset))
    np.testing.assert_array_equal(encoding.y[11:], [0, 1, 1, 0, 1, 0, 1, 1])
    assert encoding.states["field"] == ("unmapped", "15000")


@pytest.mark.parametrize("name", ["ct", "mr"])
def test_nothing_suspicious(name):
    assert [sentence for tag in load(name).tags for sentence in suspicious(tag)] == []
