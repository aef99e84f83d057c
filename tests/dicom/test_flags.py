"""Flags have words for reports and names for `--exclude`."""

from tf_dicom_ce.dicom.flags import Flag, flags_named


def test_words_and_slugs_are_of_one_flag_each():
    assert len({flag.value for flag in Flag}) == len({flag.slug for flag in Flag}) == len(Flag)
    assert Flag.BURNED_IN.slug == "burned-in"
    assert str(Flag.BURNED_IN) == "burned-in annotation declared"


def test_named():
    assert flags_named(["two-panes", "burned-in"]) == {Flag.TWO_PANES, Flag.BURNED_IN}
    assert flags_named([]) == frozenset()
