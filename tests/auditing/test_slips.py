"""The model of slips: against sums over all truths and entries, and against planted slips."""

import itertools

import numpy as np
import pytest

from tf_dicom_ce.auditing.slips import Slips, estimate_wrong, fit_slips


def by_hand(p, values, entries, slip):
    """P(g, e | pictures, v) of one unit by the sum of its definition, [K, K]."""
    k = len(p)
    joint = np.zeros((k, k))
    for g, e in itertools.product(range(k), repeat=2):
        joint[g, e] = p[g] * (1 - entries if e == g else entries / (k - 1))
        for v in values:
            joint[g, e] *= 1 - slip if v == e else slip / (k - 1)
    return joint / joint.sum()


UNITS = [
    ([0.7, 0.2, 0.1], []),
    ([0.7, 0.2, 0.1], [1]),
    ([0.2, 0.7, 0.1], [0, 0, 0, 0]),
    ([0.2, 0.7, 0.1], [0, 0, 2]),
    ([0.98, 0.01, 0.01], [1, 2]),
]


@pytest.fixture(scope="module")
def units():
    p = np.array([p for p, _ in UNITS])
    counts = np.array([np.bincount(np.array(v, int), minlength=3) for _, v in UNITS])
    return p, counts


def test_the_posterior_is_the_sum_over_all_entries(units):
    p, counts = units
    found = Slips(1.0, 0.05, 0.02).posterior(np.log(p), counts)
    for k, (own, values) in enumerate(UNITS):
        np.testing.assert_allclose(found[k], by_hand(own, values, 0.05, 0.02).sum(axis=1))


def test_files_that_agree_are_one_entry_and_one_that_differs_is_a_slip(units):
    p, counts = units
    found = Slips(1.0, 0.05, 0.02).posterior(np.log(p), counts)
    assert found[0].argmax() == 0  # nothing is entered: the pictures
    # Four equal values are no surer than one entry: odds .95/.025 against .2/.7, not to the fourth.
    assert found[2, 1] / found[2, 0] == pytest.approx(0.7 / 0.2 * 0.025 / 0.95, rel=1e-3)
    assert found[3, 2] < 0.02  # two against one


def test_the_temperature_divides_the_scores(units):
    p, counts = units
    flat = p**0.5 / (p**0.5).sum(axis=1, keepdims=True)
    hot = Slips(2.0, 0.05, 0.02).posterior(np.log(p), counts)
    np.testing.assert_allclose(hot, Slips(1.0, 0.05, 0.02).posterior(np.log(flat), counts))


def test_draws_are_as_often_as_they_are_probable(units):
    p, counts = units
    slips, rng = Slips(1.0, 0.3, 0.2), np.random.default_rng(0)
    times = 20_000
    for k, (own, values) in enumerate(UNITS):
        many = np.tile(np.log(p[k]), (times, 1)), np.tile(counts[k], (times, 1))
        drawn = np.zeros((3, 3))
        np.add.at(drawn, slips.draw(*many, rng), 1)
        expected = by_hand(own, values, 0.3, 0.2)
        np.testing.assert_allclose(drawn / times, expected, atol=4 * np.sqrt(0.25 / times))


def planted(rng, units=3000, groups=4, entries=0.06, slip=0.03, sharp=3.0):
    """Truths, pictures that tell them by `sharp`, and values that slipped."""
    g = rng.integers(groups, size=units)
    scores = rng.normal(size=(units, groups))
    scores[np.arange(units), g] += sharp
    # For unit normals the likelihood ratio of a score s is exp(sharp s): T = 1 / sharp.
    e = np.where(
        rng.uniform(size=units) < entries, (g + rng.integers(1, groups, units)) % groups, g
    )
    counts = np.zeros((units, groups), int)
    for k in range(units):
        for _ in range(rng.integers(1, 5)):
            wrong = rng.uniform() < slip
            counts[k, (e[k] + wrong * rng.integers(1, groups)) % groups] += 1
    return scores, counts, g, e


def test_planted_rates_are_found():
    scores, counts, g, _ = planted(np.random.default_rng(1))
    slips, _ = fit_slips(scores, counts)
    assert slips.temperature == pytest.approx(1 / 3, rel=0.1)
    assert slips.entries == pytest.approx(0.06, abs=0.015)
    assert slips.values == pytest.approx(0.03, abs=0.008)
    # The posterior is calibrated: among values called wrong with probability q a share of q is.
    truth = slips.posterior(scores, counts)
    assert truth[np.arange(len(g)), g].mean() == pytest.approx(truth.max(axis=1).mean(), abs=0.02)


def test_a_unit_that_counts_twice_is_two_units():
    scores, counts, *_ = planted(np.random.default_rng(2), units=300)
    weights = np.random.default_rng(3).integers(0, 3, 300)
    again = np.repeat(np.arange(300), weights)
    one, log_one = fit_slips(scores, counts, weights)
    two, log_two = fit_slips(scores[again], counts[again])
    assert log_one == pytest.approx(log_two, abs=1e-6)
    assert one.entries == pytest.approx(two.entries, abs=1e-3)


def test_without_two_files_of_a_unit_no_file_contradicts_its_study():
    scores, counts, g, e = planted(np.random.default_rng(4), units=500, slip=0.0)
    counts = np.minimum(counts, 1)
    slips, _ = fit_slips(scores, counts)
    assert slips.values < 1e-6
    of_files, of_studies = estimate_wrong(scores, counts, np.arange(500), slips, 0)
    assert of_files.high[-1] == 0
    assert of_studies.low[-1] <= (e != g).sum() <= of_studies.high[-1]


def test_the_estimate_holds_the_planted_numbers():
    """Of groups, and of all; the interval misses few."""
    missed = 0
    for seed in range(10):
        scores, counts, g, e = planted(np.random.default_rng(seed), units=200)
        slips, _ = fit_slips(scores, counts)
        of_files, of_studies = estimate_wrong(scores, counts, np.arange(200), slips, seed)
        agreeing = counts[np.arange(200), e]
        for estimate, true in (
            (of_files, counts.sum() - agreeing.sum()),
            (of_studies, agreeing[e != g].sum()),
        ):
            assert estimate.mean[-1] == pytest.approx(sum(estimate.mean[:-1]))
            missed += not estimate.low[-1] <= true <= estimate.high[-1]
    assert missed <= 3  # of 20, and 1 is expected: P(4 or more) = .016
