"""Every measure that is made has a unit and a meaning."""

import numpy as np

from tf_dicom_ce.metrics import classification_measures, mask_measures
from tf_dicom_ce.wording import describe, interval, number


def test_every_measure_has_words():
    labels = np.array([0, 1, 1])
    made = {*classification_measures(labels, labels, np.eye(2)[labels], True), "rank_inconsistency"}
    mask = np.ones((2, 2), bool)
    made |= {f"{name}_surface dice_1" for name in mask_measures(mask, mask, 1.0)} | {"dice"}
    for name in made:
        unit, meaning = describe(name, ("a", "b"))
        assert unit in {"share", "ratio", "classes", "pixels of the source"}, name
        assert len(meaning) > 20, name
        if "surface dice_1" in name:
            assert meaning.startswith("surface dice_1: ")
    assert describe("recall_1", ("a", "b"))[1].startswith("b: ")
    assert describe("recall_1")[1].startswith("1: ")  # an old export without names
    assert describe("unheard_of") == ("–", "")


def test_numbers():
    assert (number(0.12345), number(None)) == ("0.1235", "–")
    assert (interval(0.1, 2), interval(None, None)) == ("0.1000 to 2.0000", "–")
