"""Hints, tried on descriptions as departments write them."""

import pytest

from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.suggestions import closest, suspicious

PAPER = TagSchema.load("ultrasound-paper").tags
DEFAULT = TagSchema.load("ultrasound").tags
STUDY, PROBE = DEFAULT


@pytest.mark.parametrize(
    ("value", "description"),
    [
        ("US ABD COMPLETE", "US DRAINAGE ABDOMEN"),
        ("LIVER US W DOPPLER", "US BIOPSY LIVER FOCAL"),
        ("Ultrasound guided paracentesis", "US PARACENTESIS THERAPEUTIC"),
        ("US THYRIOD", "US THYROID BIOPSY"),
        ("US PARACENTISIS", "US PARACENTESIS THERAPEUTIC"),
        ("US THORACENTISIS THERAPUTIC LEFT", "US THORACENTESIS THERAPEUTIC (RIGHT)"),
        ("US BX LIVER FOCAL", "US BIOPSY LIVER FOCAL"),
        ("US MESENTERY BX", "US BIOPSY MESENTERY"),
        ("NONFOCAL KIDNEY_BIOPSY", "US BIOPSY KIDNEY NONFOCAL (EITHER SIDE)"),
        ("US RETROPERITONEAL BIOPSY", "US BIOPSY RETROPERITONEUM"),
        ("CHEST TUBE", "US CHEST TUBE PLACEMENT (RIGHT)"),
        ("US BIOPSY", "US BIOPSY NOT OTHERWISE SPECIFIED"),
    ],
)
def test_close_descriptions(value, description):
    suggestion = closest(value, STUDY)
    assert suggestion.description == description
    assert suggestion.labels == STUDY.exact[description.casefold()][1]
    assert 0.6 <= suggestion.score <= 1 + 1e-9


@pytest.mark.parametrize(
    "value",
    [
        *("ECOTOMOGRAFIA CODO IZQUIERDO", "US BIOPSIA HIGADO", "PEDIATRIC", "US Dopler", "US", ""),
        *(
            "ADRENAL",
            "PARATHYROID",
            "US BIOPSY BREAST",
            "US GUIDED FNA",
            "US HIP INFANT",
            "CT HEAD",
        ),
        *("OB ULTRASOUND 2ND TRIMESTER", "US NEONATAL HEAD", "51", "(damaged)"),
    ],
)
def test_nothing_is_close(value):
    assert closest(value, STUDY) is None


@pytest.mark.parametrize(
    ("value", "description"),
    [("CURVED_LINEAR", "CURVED LINEAR"), ("LINAER", "LINEAR"), ("SC6-2", None), ("L9-3", None)],
)
def test_names_of_probes_are_close_only_as_words(value, description):
    suggestion = closest(value, PROBE)
    assert (suggestion and suggestion.description) == description


def test_the_papers_schema_has_two_slips():
    assert suspicious(PAPER[0]) == (
        "study: 'US BIOPSY KIDNEY FOCAL (LEFT)' (liver, abdomen) and 'US BIOPSY KIDNEY FOCAL "
        "(RIGHT)' (kidney, abdomen) differ only in side, punctuation or order of words, yet in "
        "their labels",
        "study: 'US DRAINAGE KIDNEY/PARARENAL (RIGHT)' (abdomen, kidney, drainage) and 'US "
        "DRAINAGE KIDNEY/PARARENAL (LEFT)' (kidney, abdomen) differ only in side, punctuation or "
        "order of words, yet in their labels",
        "study: 'US BIOPSY KIDNEY FOCAL (LEFT)' names kidney, but its labels are (liver, abdomen)",
        "study: 'US DRAINAGE KIDNEY/PARARENAL (LEFT)' names drainage, but its labels are (kidney, "
        "abdomen)",
    )
    assert suspicious(PAPER[1]) == ()


def test_the_corrected_schema_has_none():
    assert suspicious(STUDY) == ()
    assert suspicious(PROBE) == ()


def test_patterns_that_never_win(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\n[[tag]]\nname = "t"\nelement = "KVP"\nlabels = ["kidney", "left kidney"]\n'
        'patterns = [{ regex = "a", labels = ["kidney"] }, { regex = "b", labels = [] },'
        ' { regex = "a", labels = [] }]\n[tag.map]\n"Kidneys" = []\n"LEFT KIDNEY" = ["left kidney"]'
    )
    assert suspicious(TagSchema.load(path).tags[0]) == (
        "t: pattern 'a' for (none) never wins, because an earlier one is equal",
    )
