"""Wrong tags on purpose: who gets whose, on which side, how often."""

import numpy as np
import pytest

from tf_dicom_ce.data.shuffling import add_tag_noise, shuffle_among_patients


def cohort(images=200, patients=24, seed=0):
    """Every row's y and present tell the row: y is [row, row, row], present [row + ½] thrice."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, patients, images)
    y = np.repeat(np.arange(images, dtype=np.float32)[:, np.newaxis], 3, axis=1)
    side = who % 4 == 0
    return y, y + 0.5, who, (np.flatnonzero(~side), np.flatnonzero(side))


def test_by_hand():
    """Patients 7 (rows 0, 2, 5) and 3 (rows 1, 4): two in a circle give each other theirs."""
    y = np.array([[0], [1], [2], [3], [4], [5]], np.float32)
    patients = np.array([7, 3, 7, 9, 3, 7])
    sides = (np.array([0, 1, 2, 4, 5]), np.array([3]))
    shuffled, present = shuffle_among_patients(y, 10 * y, patients, sides, seed=0)
    # Images 0, 1, 2 of patient 7 get images 0, 1, 0 of 3; 0, 1 of 3 get 0, 1 of 7; 9 is alone.
    np.testing.assert_array_equal(shuffled[:, 0], [1, 0, 4, 3, 2, 1])
    np.testing.assert_array_equal(present, 10 * shuffled)


def test_every_patient_gets_one_other_patient_of_the_same_side():
    y, present, patients, sides = cohort()
    shuffled, known = shuffle_among_patients(y, present, patients, sides, seed=5)
    np.testing.assert_array_equal(known, shuffled + 0.5)
    source = shuffled[:, 0].astype(int)
    for rows in sides:
        assert set(source[rows]) <= set(rows)
        donors = {}
        for name in np.unique(patients[rows]):
            own = rows[patients[rows] == name]
            (donor,) = set(patients[source[own]])
            given = rows[patients[rows] == donor]
            assert list(source[own]) == [given[k % len(given)] for k in range(len(own))]
            donors[name] = donor
        assert all(name != donor for name, donor in donors.items())
        assert sorted(donors.values()) == sorted(donors)  # each patient gives once


def test_shuffling_is_by_the_seed_and_each_side_by_itself():
    y, present, patients, (a, b) = cohort()
    first, _ = shuffle_among_patients(y, present, patients, (a, b), 1)
    again, _ = shuffle_among_patients(y, present, patients, (a, b), 1)
    other, _ = shuffle_among_patients(y, present, patients, (a, b), 2)
    fewer, _ = shuffle_among_patients(y, present, patients, (a, b[:5]), 1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first[a], fewer[a])  # side b has no say in side a
    np.testing.assert_array_equal(fewer[b[5:]], y[b[5:]])  # on no side


def test_a_patient_on_both_sides_gets_tags_of_each():
    y, present, patients, _ = cohort(patients=10)
    sides = (np.arange(0, 200, 2), np.arange(1, 200, 2))  # as `--split image` does
    source = shuffle_among_patients(y, present, patients, sides, 0)[0][:, 0].astype(int)
    np.testing.assert_array_equal(source % 2, np.arange(200) % 2)
    assert not np.any(patients[source] == patients)


def test_combinations_stay_about_as_frequent():
    """1,000 patients of 1 to 12 images, one of four combinations each with few exceptions."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(1000), rng.integers(1, 13, 1000))
    kind = rng.choice(4, 1000, p=[0.4, 0.3, 0.2, 0.1])[patients]
    kind = np.where(rng.random(len(kind)) < 0.1, rng.integers(0, 4, len(kind)), kind)
    y = np.eye(4, dtype=np.float32)[kind]
    shuffled, _ = shuffle_among_patients(y, y, patients, (np.arange(len(y)),), 0)
    # A patient's image count has a standard deviation of about half its mean: with 1,000
    # patients a share moves by about √(2 · 0.4 · 0.6 / 1000) · 0.5 = 0.011.
    np.testing.assert_allclose(shuffled.mean(0), y.mean(0), atol=0.035)
    # Independent of the truth: agreement by chance, Σ s².
    agreement = np.mean(np.all(shuffled == y, axis=1))
    assert agreement == pytest.approx(np.sum(y.mean(0) ** 2), abs=0.05)


def test_noise_by_span_side_and_rate():
    y, present, _, sides = cohort(images=4000)
    noisy, known = add_tag_noise(y, present, (1, 2), sides, 0.3, seed=4)
    np.testing.assert_array_equal(known, noisy + 0.5)  # value and presence of the same image
    np.testing.assert_array_equal(noisy[:, 1], noisy[:, 2])  # a span stays whole
    changed = noisy[:, :2] != y[:, :2]  # all rows differ, so what is replaced is seen
    # 8,000 draws: the standard deviation is √(0.3 · 0.7 / 8000) = 0.0051.
    assert changed.mean() == pytest.approx(0.3, abs=4 * 0.0051)
    both = np.mean(changed[:, 0] & changed[:, 1])  # tags are drawn apart
    assert both == pytest.approx(0.09, abs=4 * np.sqrt(0.09 * 0.91 / 4000))
    for rows in sides:
        assert set(noisy[rows].ravel()) <= set(rows)


def test_no_noise_is_the_identity_and_full_noise_spares_nobody():
    y, present, _, sides = cohort()
    for a, b in zip(add_tag_noise(y, present, (3,), sides, 0.0, 0), (y, present), strict=True):
        np.testing.assert_array_equal(a, b)
    noisy, _ = add_tag_noise(y, present, (1, 1, 1), sides, 1.0, 0)
    assert not np.any(noisy == y)


def test_others_are_equally_likely():
    """Of five images, each gets each of the four others a quarter of the time."""
    y = np.repeat(np.arange(5, dtype=np.float32)[:, np.newaxis], 4000, axis=1)
    noisy, _ = add_tag_noise(y, y, (1,) * 4000, (np.arange(5),), 1.0, 0)
    shares = (noisy[:, :, np.newaxis] == np.arange(5)).mean(axis=1)
    np.testing.assert_allclose(shares, (1 - np.eye(5)) / 4, atol=4 * np.sqrt(3 / 16 / 4000))


def test_more_noise_keeps_what_less_has_replaced():
    y, present, _, sides = cohort()
    little, _ = add_tag_noise(y, present, (1, 2), sides, 0.1, 7)
    much, _ = add_tag_noise(y, present, (1, 2), sides, 0.5, 7)
    replaced = little != y
    assert replaced.any()
    np.testing.assert_array_equal(much[replaced], little[replaced])
    other, _ = add_tag_noise(y, present, (1, 2), sides, 0.1, 8)
    assert not np.array_equal(little, other)


def test_a_side_of_one_image_stays_as_it_is():
    y, present, patients, _ = cohort()
    alone = (np.array([3]),)
    np.testing.assert_array_equal(add_tag_noise(y, present, (3,), alone, 1.0, 0)[0], y)
    np.testing.assert_array_equal(shuffle_among_patients(y, present, patients, alone, 0)[0], y)
