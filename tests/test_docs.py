"""The docs name what the code has."""

from pathlib import Path

from tf_dicom_ce.dicom.refusals import Code

DOCS = Path(__file__).parents[1] / "docs"


def test_every_code_is_documented_with_its_remedy():
    text = (DOCS / "intake.md").read_text()
    for code in Code:
        kind = "skipped" if code.is_skip else "unreadable"
        assert f"| `{code.value}` | {kind} | {code.remedy} |" in text
