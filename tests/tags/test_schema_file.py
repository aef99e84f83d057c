"""Mistakes in a schema are named with file and line."""

import re

import pytest

from tf_dicom_ce.tags.rules import Bin
from tf_dicom_ce.tags.schema import SchemaError, TagSchema

GOOD = """\
name = "own"

[[tag]]
name = "study"
element = "StudyDescription"
labels = ["liver", "chest"]
map_csv = "own.csv"
patterns = [
  { regex = "lung", labels = ["chest"] },
]

[[tag]]
name = "probe"
element = "TransducerData"
fallback = ["TransducerType"]
labels = ["linear"]
ignore = ["UNUSED"]

[tag.map]
"L1-2" = ["linear"]
"""
NUMERIC = """\
name = "own"
sop_classes = ["CT Image Storage"]

[[tag]]
name = "age"
element = "PatientAge"
fallback = ['(0019,"GEMS_US_01",10)']
labels = ["child", "adult"]
all_values = false
bins = [
  { below = 12, labels = ["child"] },
  { below = 18.5, labels = ["child"] },
  { labels = ["adult"] },
]
on_missing = "absent"
on_unmapped = ["adult"]
"""
CSV = "value,labels,corrected\nA,liver,\nB,chest,liver\n"


@pytest.fixture
def load(tmp_path):
    def load_schema(toml=GOOD, table=CSV):
        (tmp_path / "own.toml").write_text(toml)
        if table is not None:
            (tmp_path / "own.csv").write_text(table)
        return TagSchema.load(tmp_path / "own.toml")

    return load_schema


def test_good_schema(load):
    schema = load()
    assert schema.name == "own"
    assert schema.labels == ("liver", "chest", "linear")
    assert schema.elements == ("StudyDescription", "TransducerData", "TransducerType")
    assert schema.tags[0].exact == {"a": ("A", ("liver",)), "b": ("B", ("chest",))}


def test_corrected_column_is_used_on_demand(load):
    schema = load(GOOD.replace("map_csv", "corrected = true\nmap_csv"))
    assert schema.tags[0].exact == {"a": ("A", ("liver",)), "b": ("B", ("liver",))}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('name = "own"', 'name = "own', 1, "Illegal character"),
        ('name = "own"', 'name = "own"\ncolour = 1', 2, "unknown key 'colour'"),
        ('name = "own"', "", 1, "'name' is missing"),
        ('name = "own"', "name = 3", 1, "'name' must be a str"),
        ('ignore = ["UNUSED"]', 'ignored = ["UNUSED"]', 17, "unknown key 'ignored'"),
        ('ignore = ["UNUSED"]', 'ignore = "UNUSED"', 17, "'ignore' must be a list"),
        ('ignore = ["UNUSED"]', "ignore = [1]", 17, "'ignore' must be a list of strings"),
        ('element = "TransducerData"', "", 12, "'element' is missing"),
        ('"TransducerData"', '"TransducerDate"', 14, "unknown element 'TransducerDate'"),
        ('["TransducerType"]', '["Type"]', 15, "unknown element 'Type'"),
        (
            '"L1-2" = ["linear"]',
            '"L1-2" = ["liner"]',
            20,
            "unknown label 'liner' for 'L1-2' in map of tag",
        ),
        ('"L1-2" = ["linear"]', '"L1-2" = "linear"', 20, "must be a list"),
        (
            'labels = ["chest"] }',
            'labels = ["chst"] }',
            9,
            "unknown label 'chst' for 'lung' in patterns",
        ),
        ('regex = "lung"', 'regex = "(lung"', 9, "bad regex in tag 'study'"),
        ('{ regex = "lung", labels = ["chest"] }', "3", 8, "exactly 'regex' and 'labels'"),
        ('regex = "lung"', 'regexp = "lung"', 9, "exactly 'regex' and 'labels'"),
        ('labels = ["linear"]\n', 'labels = ["linear", "liver"]\n', 16, "duplicate label 'liver'"),
        ('["liver", "chest"]', '["liver", "chest", "liver"]', 6, "duplicate label 'liver'"),
        ('["liver", "chest"]', "[]", 6, "has no labels"),
        ('name = "probe"', 'name = "study"', 13, "duplicate tag 'study'"),
        ('"own.csv"', '"none.csv"', 7, "no file 'none.csv'"),
        ('element = "TransducerData"', 'element = "TransducerData"\ncorrected = true', 15, "needs"),
        ('"L1-2" =', '"l1-2 " = []\n"L1-2" =', 21, "duplicate value 'L1-2' in map of tag 'probe'"),
        ('"L1-2" =', '" " =', 20, "empty value ' ' in map"),
    ],
)
def test_toml_mistakes(load, old, new, line, said):
    assert old in GOOD
    with pytest.raises(SchemaError, match=rf"^own\.toml, line {line}: .*{re.escape(said)}"):
        load(GOOD.replace(old, new, 1))


def test_good_numeric_schema(load):
    schema = load(NUMERIC)
    assert schema.sop_classes == {"1.2.840.10008.5.1.4.1.1.2"}
    assert schema.elements == ("PatientAge", '(0019,"GEMS_US_01",10)')
    assert schema.tags[0].bins == (
        Bin(12, ("child",)),
        Bin(18.5, ("child",)),
        Bin(None, ("adult",)),
    )
    assert (schema.tags[0].on_missing, schema.tags[0].on_unmapped) == (None, ("adult",))


def test_sop_classes_by_name_keyword_or_uid(load):
    names = '["CTImageStorage", "1.2.840.10008.5.1.4.1.1.4", "1.2.826.0.1"]'
    schema = load(NUMERIC.replace('["CT Image Storage"]', names))
    assert schema.sop_classes == {f"1.2.840.10008.5.1.4.1.1.{k}" for k in (2, 4)} | {"1.2.826.0.1"}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("CT Image Storage", "CT Storage", 2, "unknown SOP class 'CT Storage'; write it as in"),
        ("CT Image Storage", "ExplicitVRLittleEndian", 2, "unknown SOP class"),
        ("CT Image Storage", "1.2.840.10008.5.1.4.1.1.9999", 2, "unknown SOP class"),
        ('["CT Image Storage"]', "[]", 2, "'sop_classes' is empty"),
        ('["CT Image Storage"]', '"CT"', 2, "'sop_classes' must be a list"),
        ('"PatientAge"', '"Patient Age"', 6, "cannot read element 'Patient Age'"),
        ('"PatientAge"', '"Modality.PatientAge"', 6, "is not a sequence"),
        ('(0019,"GEMS', '(0018,"GEMS', 7, "private groups are odd"),
        ("""'(0019,"GEMS_US_01",10)'""", r'"(0018,\"GEMS\",10)"', 7, "private groups are odd"),
        ("= false", '= "no"', 9, "'all_values' must be a bool"),
        ("below = 18.5", "below = 12", 12, "'below' of bin 2 of tag 'age' is 12, not above the 12"),
        ("below = 18.5", "below = -1", 12, "bounds must ascend"),
        ("below = 18.5", 'below = "x"', 12, "must be a number"),
        ("below = 18.5", "below = nan", 12, "must be a number"),
        ("below = 18.5", "below = true", 12, "must be a number"),
        ("below = 18.5, ", "", 10, "bin 2 of tag 'age' has no 'below'"),
        ("below = 18.5", "above = 18.5", 12, "bin 2 of tag 'age' must have 'labels'"),
        (
            'below = 12, labels = ["child"]',
            "below = 12",
            10,
            "bin 1 of tag 'age' must have 'labels'",
        ),
        ('{ labels = ["adult"] }', "3", 10, "bin 3 of tag 'age' must have"),
        ('{ labels = ["adult"] }', '{ labels = ["elder"] }', 10, "unknown label 'elder' for bin 3"),
        ('= "absent"', '= "error"', 15, """'on_missing' must be "absent", or a list of labels"""),
        ('= "absent"', "= 0", 15, "'on_missing' must be"),
        (
            '= ["adult"]\n',
            '= "other"\n',
            16,
            """must be "absent" or "error", or a list of labels""",
        ),
        ('= ["adult"]\n', '= ["other"]\n', 16, "unknown label 'other' for 'on_unmapped'"),
    ],
)
def test_mistakes_in_a_numeric_schema(load, old, new, line, said):
    assert old in NUMERIC
    with pytest.raises(SchemaError, match=rf"^own\.toml, line {line}: .*{re.escape(said)}"):
        load(NUMERIC.replace(old, new, 1))


def test_unknown_label_lists_the_labels(load):
    with pytest.raises(SchemaError, match=r"labels are linear$"):
        load(GOOD.replace('"L1-2" = ["linear"]', '"L1-2" = ["livr"]'))


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("value,label\nA,liver\n", 1, "no column 'labels'. The columns are: value, label"),
        ("", 1, "no column 'value'. The columns are: none"),
        ("value,labels,a,b\nA,liver,,\n", 1, "unknown columns a, b; there are value, labels, corr"),
        ("value,labels,corrected\nA,livr,\n", 2, "unknown label 'livr' for tag 'study'"),
        ("value,labels,corrected\nA,liver,\nB,liver\n", 3, "2 cells, but 3 columns"),
        ("value,labels,corrected\nA,liver,chest,x\n", 2, "4 cells, but 3 columns"),
        ("value,labels,corrected\nA,liver,\n a ,chest,\n", 3, "duplicate value"),
        ("value,labels,corrected\n,liver,\n", 2, "empty value"),
        ('value,labels,corrected\nA,"liver"x,\n', 2, "expected after"),
    ],
)
def test_csv_mistakes(load, table, line, said):
    with pytest.raises(SchemaError, match=rf"^own\.csv, line {line}: .*{re.escape(said)}"):
        load(table=table)


def test_csv_that_is_not_utf_8(load, tmp_path):
    (tmp_path / "own.csv").write_bytes(b"value,labels,corrected\nA,liver,\nF\xfc\xdfe,liver,\n")
    with pytest.raises(SchemaError, match=r"^own\.csv, line 3: not UTF-8"):
        load(table=None)


def test_no_tag(load):
    with pytest.raises(SchemaError, match=r"own\.toml, line 1: no \[\[tag]]"):
        load('name = "own"\n')


def test_not_text(tmp_path):
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match=r"own\.toml: cannot be read"):
        TagSchema.load(tmp_path / "own.toml")


def test_unknown_schema_lists_the_shipped_ones():
    with pytest.raises(SchemaError, match=r"'thorax'.*ultrasound, ultrasound-paper"):
        TagSchema.load("thorax")


def test_fingerprint_follows_the_meaning_not_the_layout(load):
    original = load().fingerprint
    assert re.fullmatch("[0-9a-f]{64}", original)
    assert load("# a comment\n" + GOOD).fingerprint == original
    changes = [
        {"toml": GOOD.replace('"lung"', '"lungs"')},
        {"toml": GOOD.replace('"L1-2"', '"L1-3"')},
        {"toml": GOOD.replace('["UNUSED"]', "[]")},
        {"toml": GOOD.replace('fallback = ["TransducerType"]', "")},
        {"table": CSV.replace("A,liver", "A,chest")},
        {"toml": GOOD.replace("map_csv", "corrected = true\nmap_csv")},
        {"toml": 'sop_classes = ["CT Image Storage"]\n' + GOOD},
        {"toml": GOOD.replace("TransducerType", "TransducerIdentificationSequence.TransducerType")},
        *(
            {"toml": GOOD.replace("ignore =", f"{line}\nignore =")}
            for line in (
                "bins = [{ below = 5, labels = [] }]",
                "bins = [{ below = 6, labels = [] }]",
                "bins = [{ labels = [] }]",
                "all_values = true",
                "on_missing = []",
                'on_missing = ["linear"]',
                "on_unmapped = []",
                'on_unmapped = "error"',
            )
        ),
    ]
    fingerprints = {load(**change).fingerprint for change in changes}
    assert len(fingerprints | {original}) == len(changes) + 1


MORE = """\
name = "more"
extends = "own.toml"

[[tag]]
name = "study"
ignore = ["US "]
patterns = [{ regex = "lung.*liver", labels = ["liver"] }]

[tag.map]
"b" = []
"US HEART" = ["chest"]

[[tag]]
name = "side"
element = "Laterality"
labels = ["left"]
map = { "L" = ["left"] }
"""


@pytest.fixture
def extend(load, tmp_path):
    load()

    def load_schema(toml):
        (tmp_path / "more.toml").write_text(toml)
        return TagSchema.load(tmp_path / "more.toml")

    return load_schema


def test_a_schema_that_extends_another(extend, tmp_path):
    """It adds to the tags of the other, stands above them, and has tags of its own behind."""
    schema = extend(MORE)
    assert schema.name == "more"
    assert schema.labels == ("liver", "chest", "linear", "left")
    study, probe, _ = schema.tags
    assert {value: labels for value, (_, labels) in study.exact.items()} == {
        "a": ("liver",),
        "b": (),
        "us heart": ("chest",),
    }
    assert [pattern.pattern for pattern, _ in study.patterns] == ["lung.*liver", "lung"]
    assert study.ignore == {"us"}
    own = TagSchema.load(tmp_path / "own.toml")
    assert probe == own.tags[1]
    assert extend('name = "same"\nextends = "own.toml"\n').fingerprint == own.fingerprint
    assert extend('name = "us"\nextends = "ultrasound"\n').tags == TagSchema.load("ultrasound").tags


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('"own.toml"', '"gone"', 2, "no tag schema 'gone': give the path of a TOML file"),
        ('"own.toml"', '"more.toml"', 2, "'extends' leads by 'more.toml' back to this file"),
        ("ignore =", "labels =", 6, "can get ignore, map, patterns only"),
        ('= ["chest"]', '= ["lung"]', 11, "unknown label 'lung' for 'US HEART'"),
        ('labels = ["left"]', 'labels = ["left", "linear"]', 16, "duplicate label 'linear'"),
        ('"side"', '"study"', 15, "'element': the tag 'study'"),
    ],
)
def test_mistakes_in_an_extension(extend, old, new, line, said):
    with pytest.raises(SchemaError, match=re.escape(f"more.toml, line {line}: ")) as caught:
        extend(MORE.replace(old, new))
    assert said in str(caught.value)
