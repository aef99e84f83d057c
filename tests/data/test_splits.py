import numpy as np
import pytest

from tf_dicom_ce.data.splits import split_rows
from tf_dicom_ce.errors import UserError

ROWS = np.arange(1000) * 2
PATIENTS = np.sort(np.random.default_rng(0).integers(0, 60, 1000))


def test_no_patient_on_both_sides_and_no_row_lost():
    split = split_rows(ROWS, PATIENTS, 0.2, seed=0)
    assert set(PATIENTS[split.train // 2]).isdisjoint(PATIENTS[split.validation // 2])
    np.testing.assert_array_equal(np.sort([*split.train, *split.validation]), ROWS)
    assert len(split.validation) / len(ROWS) == pytest.approx(0.2, abs=0.01)


def test_by_image_is_exact():
    assert len(split_rows(ROWS, ROWS, 0.2, seed=0).validation) == 200


def test_the_seed_decides():
    a, b, c = (split_rows(ROWS, PATIENTS, 0.2, seed).fingerprint for seed in (0, 0, 1))
    assert a == b != c


def test_one_large_patient_does_not_take_a_whole_side():
    split = split_rows(np.arange(101), np.array([0] * 100 + [1]), 0.2, seed=0)
    np.testing.assert_array_equal(split.validation, [100])


def test_a_single_patient_cannot_be_split():
    with pytest.raises(UserError, match="--split image"):
        split_rows(np.arange(5), np.zeros(5), 0.2, seed=0)
