"""Bins, several values, and what stands in for what is missing or unmapped."""

import numpy as np
import pytest

from tf_dicom_ce.tags.rules import to_number
from tf_dicom_ce.tags.schema import SchemaError, TagSchema


@pytest.fixture
def schema(tmp_path):
    def load(*lines, labels=("low", "mid", "high"), element="KVP"):
        path = tmp_path / "own.toml"
        names = ", ".join(f'"{label}"' for label in labels)
        head = f'name = "own"\n[[tag]]\nname = "t"\nelement = "{element}"\nlabels = [{names}]\n'
        path.write_text(head + "\n".join(lines))
        return TagSchema.load(path)

    return load


def encode(schema, *values):
    """State, raw value, labels, and whether the tag is present."""
    encoding = schema.encode({schema.elements[0]: values})
    assert len(set(encoding.present)) == 1
    labels = [label for label, on in zip(schema.labels, encoding.y, strict=True) if on]
    return (*encoding.states["t"], labels, bool(encoding.present[0]))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("5", 5), ("-5.5", -5.5), ("+.5", 0.5), ("5.", 5), ("1.2e+1", 12), ("007", 7)),
        *(("034y", 34), ("006m", 0.5), ("012w", 84 / 365.25), ("003d", 3 / 365.25), ("34y", 34)),
        *((text, None) for text in ("", "nan", "inf", "1_0", "0x1", "5 mm", "y", "1e", "٣")),
    ],
)
def test_numbers(text, number):
    assert to_number(text) == (None if number is None else pytest.approx(number))


OPEN = """bins = [
  { below = 5, labels = ["low"] },
  { below = 10, labels = ["mid"] },
  { labels = ["high"] },
]"""
CLOSED = 'bins = [{ below = 5, labels = ["low"] }, { below = 1e1, labels = ["mid"] }]'


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        *(("-1", ["low"]), ("4.999", ["low"]), ("5", ["mid"]), ("9.9", ["mid"])),
        *(("10", ["high"]), ("1e6", ["high"]), ("006M", ["low"]), ("034Y", ["high"])),
    ],
)
def test_bins(schema, value, labels):
    assert encode(schema(OPEN), value) == ("mapped", value, labels, True)


def test_bins_come_after_the_map_and_before_patterns(schema):
    tail = ('patterns = [{ regex = ".", labels = [] }]', "[tag.map]", '"5" = ["high"]')
    rules = schema(CLOSED, *tail)
    assert encode(rules, "5") == ("mapped", "5", ["high"], True)
    assert encode(rules, "6") == ("mapped", "6", ["mid"], True)
    assert encode(rules, "10") == ("mapped", "10", [], True)
    assert encode(rules, "five") == ("mapped", "five", [], True)
    assert encode(schema(CLOSED), "10") == ("unmapped", "10", [], False)
    assert encode(schema(CLOSED), "x", " 4 ") == ("mapped", " 4 ", ["low"], True)


def test_numbers_are_untidy_by_spacing_alone(schema):
    rules = schema(OPEN)
    assert rules.encode({"KVP": (" 4",)}).untidy == ("t",)
    assert rules.encode({"KVP": ("4.0",)}).untidy == ()


def test_all_values(schema):
    lines = ('ignore = ["-"]', "[tag.map]", '"A" = ["low"]', '"B" = ["mid", "high"]', '"C" = []')
    first = schema(*lines, element="ScanningSequence")
    every = schema("all_values = true", *lines, element="ScanningSequence")
    assert encode(first, "C", "A", "B") == ("mapped", "C", [], True)
    assert encode(first, "X", "B") == ("mapped", "B", ["mid", "high"], True)
    assert encode(every, "B", "-", "A") == ("mapped", "B\\A", ["low", "mid", "high"], True)
    assert encode(every, "A", "C") == ("mapped", "A\\C", ["low"], True)
    # What else the value would add is not known, so nothing is.
    assert encode(every, "A", "X", "Y") == ("unmapped", "X\\Y", [], False)
    assert every.encode({"ScanningSequence": ("A", "b")}).untidy == ("t",)


@pytest.mark.parametrize(
    ("values", "state"),
    [(None, "missing"), ((), "empty"), (("", " "), "empty"), (("-",), "ignored")],
)
def test_on_missing(schema, values, state):
    for line, labels, present in (
        ("", [], False),
        ('on_missing = "absent"', [], False),
        ('on_missing = ["low"]', ["low"], True),
        ("on_missing = []", [], True),
        ('on_unmapped = ["low"]', [], False),
    ):
        rules = schema('ignore = ["-"]', line)
        encoding = rules.encode({"KVP": values})
        assert encoding.states["t"][0] == state
        np.testing.assert_array_equal(encoding.present, [present] * 3)
        np.testing.assert_array_equal(encoding.y, [label in labels for label in rules.labels])


def test_on_unmapped(schema):
    assert encode(schema(), "X") == ("unmapped", "X", [], False)
    assert encode(schema('on_unmapped = "absent"'), "X") == ("unmapped", "X", [], False)
    assert encode(schema('on_unmapped = ["high"]'), "X") == ("unmapped", "X", ["high"], True)
    assert encode(schema('on_missing = ["high"]'), "X") == ("unmapped", "X", [], False)


def test_unmapped_fallback_outweighs_a_missing_element(schema):
    policies = ('on_unmapped = ["high"]', 'on_missing = ["low"]')
    rules = schema('fallback = ["StudyDescription"]', *policies)
    encoding = rules.encode({"KVP": None, "StudyDescription": ("X",)})
    np.testing.assert_array_equal(encoding.y, [0, 0, 1])


def test_unmapped_as_an_error_does_not_quote_the_value(schema):
    rules = schema('on_unmapped = "error"', 'fallback = ["0019,1010"]', OPEN)
    assert encode(rules, "4") == ("mapped", "4", ["low"], True)
    assert encode(rules) == ("empty", "", [], False)
    with pytest.raises(SchemaError, match=r"^tag 't': .* KVP .*on_unmapped") as error:
        encode(rules, "Doe^Jane")
    assert "Doe" not in str(error.value)
    with pytest.raises(SchemaError, match=r"\(0019,1010\)"):
        rules.encode({"(0019,1010)": ("X",)})
    # What the fallback says settles it.
    assert rules.encode({"KVP": ("X",), "(0019,1010)": ("4",)}).y[0] == 1


def test_damage_maps_to_nothing(schema):
    rules = schema('patterns = [{ regex = ".", labels = ["low"] }]')
    assert encode(rules, "anything") == ("mapped", "anything", ["low"], True)
    assert encode(rules, "(damaged)") == ("unmapped", "(damaged)", [], False)
