"""What class names mean: the built-in table against pydicom's dictionary, and a user's."""

import dataclasses
import io

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.results.codes import SCHEME, coded, read_codes
from tf_dicom_ce.results.files import dicom_bytes
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import open_image
from tf_dicom_ce.tags.schema import TagSchema


def test_codes_are_those_of_dicom():
    """pydicom's dictionary is made of PS3.16, by its editors."""
    dictionary = (getattr(codes.SCT, keyword) for keyword in codes.SCT.dir(""))
    known = {(code.value, code.meaning) for code in dictionary}
    for what in read_codes().values():
        assert (what.code.value, what.code.meaning) in known
        assert what.code.scheme_designator == "SCT"


def test_the_phantom_and_the_paper_have_codes():
    """All labels of Appendix A.1 but a procedure, and the phantom's masks."""
    labels = TagSchema.load("ultrasound-paper").tags[0].labels
    assert {name for name in (*labels, "liver", "kidney") if name not in read_codes()} == {
        "drainage"
    }


def test_a_users_table_stands_above(tmp_path, write, ramp, segmenter):
    path = tmp_path / "codes.toml"
    path.write_text(
        '[anatomy]\n"KIDNEY" = ["9846003", "SCT", "Right kidney"]\n'
        '[other]\n"cyst, simple" = ["X1", "99MINE", "My cyst"]\n'
    )
    table = read_codes(path)
    assert coded("Kidney ", table).code == Code("9846003", "SCT", "Right kidney")
    assert coded("liver", table).code == codes.SCT.Liver
    assert coded("tail", table).code.scheme_designator == SCHEME
    content = {**dataclasses.asdict(segmenter), "data_fingerprint": "c0ffee"}
    model = Model.of("segmentation", "3", content, table)
    source = open_image(write("a", ramp))
    finding = Finding.of(source, {"mask": np.full((20, 30), 2, np.uint8)}, model)
    uids = set()
    for of in (model, segmenter):
        seg = pydicom.dcmread(io.BytesIO(dicom_bytes("seg", source, finding, of)))
        uids.add(seg.SOPInstanceUID)
    assert len(uids) == 2  # what says something else is another result
    seg = pydicom.dcmread(io.BytesIO(dicom_bytes("seg", source, finding, model)))
    types = [item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in seg.SegmentSequence]
    assert types == ["Liver", "Right kidney", "My cyst"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[anatomy", "cannot be read"),
        ("liver = 3", r"\[liver\] is none of its tables \(anatomy, abnormality, other\)"),
        ('[organs]\nliver = ["1", "SCT", "x"]', r"\[organs\] is none"),
        ('[anatomy]\nliver = ["1", "SCT"]', r"liver = \['1', 'SCT'\] is no code. Write it as"),
        ('[anatomy]\nliver = ["12345678901234567", "SCT", "Liver"]', "is no code"),
        ('[anatomy]\nliver = ["1", "SCT", "a\\\\b"]', "is no code"),
        ('[anatomy]\nliver = ["1", "", "Liver"]', "is no code"),
    ],
)
def test_mistakes_are_named(tmp_path, content, words):
    path = tmp_path / "codes.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=words) as error:
        read_codes(path)
    assert str(path) in str(error.value)


def test_no_table(tmp_path):
    with pytest.raises(UserError, match="cannot be read \\(No such file"):
        read_codes(tmp_path / "none.toml")
