"""The study's statistics against SciPy, plain NumPy, hand computation and simulation."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from scipy import stats

from tf_dicom_ce.study import statistics
from tf_dicom_ce.study.statistics import (
    Verdict,
    cell_summary,
    power,
    shaffer,
    smallest_effect,
    verdicts,
)

EFFECT = 0.05
NOT_SHOWN = Verdict("not shown", excluded=False, p=1.0, p_excluded=1.0)
paired_test = functools.partial(statistics.paired_test, effect=EFFECT)


def arms(rng, runs, patients, spreads, images=2, gains=(0.0, 0.0)):
    """Scores [runs, patients * images] for each gain, on the same patients, and the patients.

    `spreads` are the sds of what an arm does to a patient, of a run, and of a run on a patient.
    """
    of_arm, of_run, of_both = spreads
    base = rng.normal(size=patients)
    scores = []
    for gain in gains:
        cell = gain + base + of_arm * rng.normal(size=patients)
        cell = cell + of_run * rng.normal(size=(runs, 1))
        cell = cell + of_both * rng.normal(size=(runs, patients))
        noise = 0.3 * rng.normal(size=(runs, patients * images))
        scores.append(np.repeat(cell, images, axis=1) + noise)
    return scores, np.repeat(np.arange(patients), images)


def by_patient(scores, patients):
    """Mean of the seeds' mean for each patient, by plain NumPy."""
    average = np.mean(scores, axis=0)
    return np.array([average[patients == name].mean() for name in np.unique(patients)])


@pytest.mark.parametrize("count", [2, 5, 12])
def test_exact_p_is_scipys(count):
    rng = np.random.default_rng(count)
    (a, b), patients = arms(rng, 3, count, (0.5, 0.1, 0.2), gains=(0.4, 0.0))
    found = paired_test(a, b, patients, seed=0)
    x, y = by_patient(a, patients), by_patient(b, patients)
    reference = stats.permutation_test(
        (x, y), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == pytest.approx(reference.pvalue)
    assert found.difference == pytest.approx((x - y).mean())
    assert found.test.endswith("exact")


def test_exact_p_counts_ties():
    # All 16 flips of (1, 1, 1, -1) by hand: |sum| is 4 in 2, 2 in 8, 0 in 6.
    a = np.array([[1.0, 1.0, 1.0, 0.0]])
    b = np.array([[0.0, 0.0, 0.0, 1.0]])
    assert paired_test(a, b, np.arange(4), seed=0).p == 10 / 16


def test_random_p_is_near_the_exact_one_and_never_zero():
    rng = np.random.default_rng(1)
    (a, b), patients = arms(rng, 2, 16, (0.6, 0, 0.2), gains=(0.3, 0.0))
    exact = stats.permutation_test(
        (by_patient(a, patients), by_patient(b, patients)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
        batch=10_000,
    ).pvalue
    assert 0.01 < exact < 0.5
    found = paired_test(a, b, patients, seed=0)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 10_000))
    assert "10,000" in found.test
    assert paired_test(a + 9, b, patients, seed=0).p == pytest.approx(1 / 10_001, abs=3e-4)
    assert paired_test(a + 9, b, patients, seed=0).p >= 1 / 10_001


def test_effect_sizes_by_hand():
    a = np.array([[0.5, 0.7, 0.9, 0.4], [0.7, 0.9, 0.9, 0.4]])
    b = np.tile([0.5, 0.6, 0.3, 0.4], (2, 1))
    found = paired_test(a, b, np.array([1, 1, 2, 3]), seed=0)
    # Patient 1: 0.6 and 0.8 less (0.5 + 0.6) / 2; then 0.6 and 0 in both runs.
    sds = [np.std([0.05, 0.6, 0.0], ddof=1), np.std([0.25, 0.6, 0.0], ddof=1)]
    assert found.difference == pytest.approx(0.25)
    assert found.effect_size == pytest.approx(0.25 / np.mean(sds))
    assert (found.share_better, found.share_worse) == pytest.approx((2 / 3, 0))
    assert (found.n_patients, found.n_seeds) == (3, 2)


def test_one_seed_is_the_paired_t_test():
    (a, b), patients = arms(np.random.default_rng(2), 1, 60, (0.5, 0, 0.3), gains=(0.3, 0))
    found = paired_test(a, b, patients, seed=0)
    differences = by_patient(a, patients) - by_patient(b, patients)
    reference = stats.ttest_1samp(differences, 0)
    assert found.p_seeds == pytest.approx(reference.pvalue)
    assert found.interval_95 == pytest.approx(tuple(reference.confidence_interval()), abs=0.03)


def test_of_seeds_alone_it_is_the_paired_t_test_over_seeds():
    # All patients alike: only the runs vary, and what a seed does to both arms falls out.
    rng = np.random.default_rng(3)
    luck = rng.normal(size=(5, 1))
    a, b = (luck + mean + 0.1 * rng.normal(size=(5, 1)) for mean in (0.6, 0.3))
    found = paired_test(np.tile(a, 8), np.tile(b, 8), np.arange(8), seed=0)
    reference = stats.ttest_rel(a[:, 0], b[:, 0])
    assert found.p_seeds == pytest.approx(reference.pvalue)
    low, high = reference.confidence_interval()
    assert np.diff(found.interval_95) == pytest.approx(high - low)
    assert found.interval_95 == pytest.approx((low, high), abs=0.25 * (high - low) / 2)


def test_p_seeds_against_the_analysis_of_variance():
    """Mean squares by loops: seeds crossed with patients."""
    rng = np.random.default_rng(13)
    count, runs = 6, 3
    (a, b), patients = arms(rng, runs, count, (0.3, 0.5, 0.4), images=1)
    a, b = a / 10, b / 10
    d = a - b
    of_patients = sum(runs * (d[:, p].mean() - d.mean()) ** 2 for p in range(count)) / (count - 1)
    of_seeds = sum(count * (row.mean() - d.mean()) ** 2 for row in d) / (runs - 1)
    rest = sum(
        (d[s, p] - d[s].mean() - d[:, p].mean() + d.mean()) ** 2
        for s in range(runs)
        for p in range(count)
    ) / ((runs - 1) * (count - 1))
    assert of_seeds > rest > 0.0005
    error = np.sqrt((of_patients + of_seeds - rest) / (runs * count))
    found = paired_test(a, b, patients, seed=0)
    assert found.p_seeds == pytest.approx(2 * stats.t.sf(abs(d.mean()) / error, runs - 1))
    assert np.diff(found.interval_95) == pytest.approx(2 * stats.t.ppf(0.975, runs - 1) * error)


@pytest.mark.parametrize(("runs", "count", "freedom"), [(2, 30, 1), (3, 30, 2), (8, 5, 4)])
def test_seeds_that_agree_by_luck_have_no_more_degrees_of_freedom(runs, count, freedom):
    # All runs alike: V is that of the patients alone, and Satterthwaite's formula gives P - 1.
    x = np.tile(np.random.default_rng(14).normal(0.3, 1, count), (runs, 1))
    found = paired_test(x, np.zeros_like(x), np.arange(count), seed=0)
    t = stats.ttest_1samp(x[0], 0).statistic
    assert found.p_seeds == pytest.approx(2 * stats.t.sf(abs(t), freedom))


def test_shaffer_by_hand():
    # 4 x .001 (b's first: b counts 1/2), 3.5 x .002 (a's second: a counts 1), 3.5 x .004 (a's
    # first: a is out), 2.5 x .01 (c's first: 1/2), 2 x .011 raised (b's second: out),
    # 1.5 x .03 (d's second: 1), 1.5 x .04 (d's first: out), 1 x .06 (c's second, the last).
    raw = [(0.004, 0.002), (0.001, 0.011), (0.01, 0.06), (0.04, 0.03)]
    expected = [(0.014, 0.007), (0.004, 0.025), (0.025, 0.06), (0.06, 0.045)]
    assert shaffer(raw) == pytest.approx(np.array(expected))
    assert shaffer(raw[::-1]) == pytest.approx(np.array(expected[::-1]))
    # Hypotheses that are never rejected keep their comparison in: 3 and 2.5, not 6 and 5.
    assert shaffer([(1, 1), (0.01, 1), (1, 0.012)]) == pytest.approx(
        np.array([(1, 1), (0.03, 1), (1, 0.03)])
    )
    assert shaffer([(0.02, 0.03)]) == pytest.approx(np.array([(0.02, 0.03)]))
    assert shaffer([]).size == 0


def test_shaffer_without_a_gain_to_exclude_is_holm():
    """A comparison whose second hypothesis is gone counts as Holm's: 4 x .005, 3 x .01, 2 x .03."""
    found = shaffer([(p, 0) for p in (0.01, 0.04, 0.03, 0.005)])
    assert found[:, 0] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_shaffer_is_no_milder_than_the_closed_test_and_no_harder_than_holm():
    """By brute force: all sets of hypotheses that can be true together, Bonferroni in each."""
    rng = np.random.default_rng(15)
    for _ in range(50):
        raw, closed = rng.uniform(size=(3, 2)) ** 3, np.zeros((3, 2))
        for truth in itertools.product((0, 1, None), repeat=3):
            true = [(k, which) for k, which in enumerate(truth) if which is not None]
            count = max(1, sum(0.5 if which else 1 for _, which in true))
            for at in true:
                closed[at] = max(closed[at], min(1, count * min(raw[a] for a in true)))
        found = shaffer(raw)
        assert (found >= closed - 1e-12).all()
        order = np.argsort(raw, axis=None)
        of_all_six = np.maximum.accumulate(np.minimum(1, raw.flat[order] * np.arange(6, 0, -1)))
        assert (found.flat[order] <= of_all_six + 1e-12).all()


def test_cell_by_hand():
    scores = np.array([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])  # right or wrong
    found = cell_summary(scores, np.array(["a", "a", "a", "b"]), seed=0)
    assert found.mean == 0.625
    assert found.sd_seeds == pytest.approx(np.std([0.75, 0.5], ddof=1))
    assert found.sd_images == pytest.approx((0.5 + np.sqrt(1 / 3)) / 2)
    assert (found.n_images, found.n_patients, found.n_seeds) == (4, 2, 2)
    assert 0.5 <= found.bootstrap_mean <= 1  # the means of patients a and b


def test_cell_of_one_seed_against_the_normal_interval():
    values = np.random.default_rng(4).normal(0.6, 0.2, 400)
    found = cell_summary(values[None], np.arange(400), seed=0)
    error = values.std(ddof=1) / 20
    assert found.sd_seeds is None
    assert found.bootstrap_sd == pytest.approx(error, rel=0.7)
    assert found.interval_95 == pytest.approx(
        (values.mean() - 1.97 * error, values.mean() + 1.97 * error), abs=0.2 * error
    )
    # Ten images of each patient, all alike, are no more than one.
    many = cell_summary(np.repeat(values, 10)[None], np.repeat(np.arange(400), 10), seed=0)
    assert many.interval_95 == pytest.approx(found.interval_95)


def test_seeds_widen_the_interval_and_not_the_papers_sd():
    rng = np.random.default_rng(5)
    scores = np.tile(rng.uniform(size=50), (3, 1))
    shifted = scores + np.array([[-0.2], [0.0], [0.2]])
    same, other = (cell_summary(s, np.arange(50), seed=0) for s in (scores, shifted))
    assert other.bootstrap_sd == pytest.approx(same.bootstrap_sd)
    assert np.diff(other.interval_95) > 2 * np.diff(same.interval_95)


def test_more_seeds_do_not_change_what_is_of_one_run():
    """Noise that is each run's own averages out over seeds; of one run it stays."""
    rng = np.random.default_rng(6)
    (a, b), patients = arms(rng, 4, 30, (0.2, 0.1, 0.5), gains=(0.3, 0))
    whole, runs = cell_summary(a, patients, 0), [cell_summary(row[None], patients, 0) for row in a]
    for name in ("mean", "sd_images", "bootstrap_mean", "bootstrap_sd"):
        assert getattr(whole, name) == pytest.approx(np.mean([getattr(r, name) for r in runs]))
    assert whole.bootstrap_sd > 1.1 * cell_summary(a.mean(0)[None], patients, 0).bootstrap_sd
    test = paired_test(a, b, patients, 0)
    tests = [paired_test(x[None], y[None], patients, 0) for x, y in zip(a, b, strict=True)]
    for name in ("difference", "share_better", "share_worse"):
        assert getattr(test, name) == pytest.approx(np.mean([getattr(r, name) for r in tests]))
    sds = [r.difference / r.effect_size for r in tests]
    assert test.effect_size == pytest.approx(test.difference / np.mean(sds))


@pytest.mark.parametrize("mean", [0.5, 0.82])
def test_the_mean_of_a_hundred_scores_has_an_sd_below_the_papers(mean):
    """The most that scores in 0 ... 1 can spread: all of them 0 or 1."""
    scores = (np.arange(100) < 100 * mean).astype(float)
    found = [cell_summary(scores[None], np.arange(100), seed) for seed in range(50)]
    most = np.sqrt(mean * (1 - mean))
    assert found[0].sd_images == pytest.approx(most * np.sqrt(100 / 99))
    # Of ten resamples it varies by 1 / sqrt(18); on average over 50 it is within 4 % of the bound.
    assert np.mean([f.bootstrap_sd for f in found]) == pytest.approx(most / 10, rel=0.1)
    assert most / 10 <= 0.05


def test_one_patient_has_no_interval_and_shows_nothing():
    a, b = np.full((2, 5), 0.9), np.full((2, 5), 0.1)
    found = paired_test(a, b, np.zeros(5), seed=0)
    assert (found.interval_95, found.p_seeds, found.effect_size, found.p) == (None, None, None, 1)
    assert found.p_excluded == 1
    assert verdicts([found]) == [NOT_SHOWN]
    assert power(found, 0.5, 1) is smallest_effect(found, 1) is None
    assert cell_summary(a, np.zeros(5), seed=0).interval_95 is None


def test_intervals_stay_where_scores_can_be():
    """Of two seeds that differ, t of one degree of freedom reaches far beyond 0 ... 1."""
    a = np.array([[0.2, 0.3, 0.1, 0.2], [0.8, 0.9, 0.7, 0.8]])
    assert cell_summary(a, np.arange(4), seed=0).interval_95 == (0, 1)
    assert paired_test(a, np.full_like(a, 0.5), np.arange(4), seed=0).interval_95 == (-1, 1)


def test_equal_arms_show_nothing():
    scores = np.random.default_rng(7).uniform(size=(1, 30))
    found = paired_test(np.tile(scores, (3, 1)), np.tile(scores, (3, 1)), np.arange(30), seed=0)
    assert (found.difference, found.p, found.effect_size) == (0, 1, None)
    # Without a spread nothing is known of it: that no patient differs may be luck.
    assert verdicts([found]) == [NOT_SHOWN]
    assert power(found, 0.5, 1) is smallest_effect(found, 1) is None


def test_same_seed_same_numbers():
    (a, b), patients = arms(np.random.default_rng(8), 3, 20, (0.5, 0.1, 0.2))
    assert paired_test(a, b, patients, 1) == paired_test(a, b, patients, 1)
    assert paired_test(a, b, patients, 1) != paired_test(a, b, patients, 2)
    assert cell_summary(a, patients, 1) == cell_summary(a, patients, 1)
    back = paired_test(b, a, patients, 1)
    assert back.difference == -paired_test(a, b, patients, 1).difference


def differing(mean, of_runs, of_patients, runs=5, patients=40):
    """A test of differences with just this mean, and runs and patients as far apart as this."""
    x = mean + of_runs * stats.zscore(np.arange(runs))[:, None]
    x = x + of_patients * stats.zscore(np.arange(patients) % 8)
    return paired_test(x, np.zeros_like(x), np.arange(patients), seed=0)


def test_verdicts_of_a_family():
    gains = (0.0, 0.5, 0.0, -0.5)
    (none, *others), patients = arms(np.random.default_rng(9), 5, 40, (0.2, 0.05, 0.2), gains=gains)
    tests = [paired_test(other, none, patients, seed=0) for other in others]
    found = verdicts(tests)
    assert [v.verdict for v in found] == ["better", "not shown", "worse"]
    assert [v.excluded for v in found] == [False, False, True]
    raw = [(max(t.p, t.p_seeds), t.p_excluded) for t in tests]
    assert [(v.p, v.p_excluded) for v in found] == [tuple(ps) for ps in shaffer(raw)]


@pytest.mark.parametrize(
    ("mean", "spread", "verdict", "excluded"),
    [
        (0.0, 0.01, "excluded", True),  # 95 % interval about 0 ± 0.012
        (0.0, 0.05, "not shown", False),  # 0 ± 0.06, which reaches 0.05
        (0.02, 0.01, "better", True),  # but by less than 0.05
        (0.08, 0.01, "better", False),
        (0.04, 0.01, "better", False),  # up to 0.052
        (-0.04, 0.01, "worse", True),
        (0.03, 0.03, "not shown", False),
    ],
)
def test_four_verdicts(mean, spread, verdict, excluded):
    test = differing(mean, spread, 0.001)
    # Of five runs t is 2.776, V the sample variance over five: 1.388 times the sample's spread.
    half = 2.776 * spread / 2
    assert test.interval_95 == pytest.approx((mean - half, mean + half), abs=0.2 * half)
    (found,) = verdicts([test])
    assert (found.verdict, found.excluded) == (verdict, excluded)


def test_the_p_of_a_gain_is_scipys():
    """The larger of an exact permutation test and a t test, both of a - b - 0.05, two-sided."""
    (a, b), patients = arms(np.random.default_rng(16), 1, 12, (0.01, 0, 0.01), gains=(-0.3, 0))
    x, y = by_patient(a, patients), by_patient(b, patients)
    t = stats.ttest_1samp(x - y, EFFECT).pvalue
    flips = stats.permutation_test(
        (x - EFFECT, y),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
    ).pvalue
    found = paired_test(a, b, patients, seed=0)
    assert found.interval_95[1] < EFFECT
    assert found.p_excluded == pytest.approx(max(t, flips))
    assert found.p_excluded < 0.05
    # Of several seeds: V over the seeds, as where nothing else varies.
    found = differing(0.0, 0.02, 0.0)
    t = stats.ttest_1samp(0.02 * stats.zscore(np.arange(5)), EFFECT).pvalue
    assert found.p_excluded == pytest.approx(t)


def test_a_gain_that_the_interval_reaches_is_not_excluded():
    test = differing(0.0, 0.02, 0.001)
    assert test.p_excluded < 0.01
    for effect, p in ((test.interval_95[1] * 1.001, 0.06), (test.interval_95[1], 1)):
        x = 0.02 * stats.zscore(np.arange(5))[:, None] + 0.001 * stats.zscore(np.arange(40) % 8)
        found = statistics.paired_test(x, np.zeros_like(x), np.arange(40), seed=0, effect=effect)
        assert found.interval_95 == test.interval_95
        assert found.p_excluded == pytest.approx(p, abs=0.03)


def test_conditions_that_are_not_done_count_in_the_family():
    (a, b), patients = arms(np.random.default_rng(9), 5, 40, (0.2, 0.05, 0.2), gains=(0.25, 0))
    test = paired_test(a, b, patients, seed=0)
    p = max(test.p, test.p_seeds)
    assert 0.0125 < p < 0.05
    assert verdicts([test]) == [Verdict("better", False, p, 1.0)]
    found = verdicts([None, test, None, None])
    assert found == [None, Verdict("not shown", False, pytest.approx(4 * p), 1.0), None, None]
    tight = differing(0.0, 0.03, 0.001)
    assert 0.0125 < tight.p_excluded < 0.05
    assert verdicts([tight])[0].verdict == "excluded"
    first, *others = verdicts([tight, None, None, None])
    assert first == Verdict("not shown", False, 1.0, pytest.approx(4 * tight.p_excluded))
    assert others == [None] * 3


def test_a_family_that_is_better_leaves_half_of_each():
    """Four alike: of 4, 3.5, 3 and 2.5 comparisons, for each may still be better by 0.05."""
    found = differing(0.08, 0.01, 0.001)
    raw = [0.001, 0.013, 0.016, 0.019]
    tests = [dataclasses.replace(found, p=p, p_seeds=p, p_excluded=1.0) for p in raw]
    judged = verdicts(tests)
    assert [v.p for v in judged] == pytest.approx([0.004, 0.0455, 0.048, 0.048])
    assert {v.verdict for v in judged} == {"better"}


@pytest.mark.parametrize(
    "change",
    [
        {"n_seeds": 1},
        {"interval_95": (-0.01, 0.3)},
        {"p": 0.05},
        {"p_seeds": 0.05},
    ],
)
def test_a_verdict_needs_everything(change):
    (a, b), patients = arms(np.random.default_rng(10), 3, 30, (0.1, 0.02, 0.1), gains=(1, 0))
    found = paired_test(a, b, patients, seed=0)
    assert verdicts([found])[0].verdict == "better"
    assert verdicts([dataclasses.replace(found, **change)])[0].verdict == "not shown"


@pytest.mark.parametrize("change", [{"n_seeds": 1}, {"p_excluded": 0.05}, {"interval_95": None}])
def test_an_exclusion_needs_everything(change):
    found = differing(0.0, 0.01, 0.001)
    assert verdicts([found])[0].verdict == "excluded"
    assert verdicts([dataclasses.replace(found, **change)])[0].verdict == "not shown"


def test_one_run_does_not_make_the_others_milder():
    test = differing(0.08, 0.02, 0.001)
    p = max(test.p, test.p_seeds)
    one = dataclasses.replace(test, n_seeds=1, p=1e-9, p_seeds=1e-9, p_excluded=1e-9)
    assert verdicts([one, test])[1].p == pytest.approx(2 * p)
    assert verdicts([one])[0] == NOT_SHOWN


def test_power_by_hand():
    """Tables of t: 2.776 at 0.975, 4.315 at 1 - 0.05 / 8, four degrees of freedom."""
    test = dataclasses.replace(differing(0, 0.01, 0.001), error=0.02, freedom=4)
    assert power(test, 0.05, 1) == pytest.approx(stats.norm.cdf(2.5 - 2.826), abs=1e-3)
    assert power(test, 0.05, 4) == pytest.approx(stats.norm.cdf(2.5 - 4.365), abs=1e-3)
    assert smallest_effect(test, 4) == pytest.approx(0.02 * (4.365 + 0.8416), abs=1e-4)
    # The interval must not contain 0; its lower side of 3.5 standard errors matters alone only.
    skewed = dataclasses.replace(test, difference=0.01, interval_95=(-0.06, 0.05))
    assert power(skewed, 0.05, 1) == pytest.approx(stats.norm.cdf(2.5 - 3.55), abs=1e-3)
    assert power(skewed, 0.05, 4) == power(test, 0.05, 4)
    assert power(test, smallest_effect(test, 3, 0.9), 3) == pytest.approx(0.9)
    assert power(dataclasses.replace(test, n_seeds=1), 0.05, 1) is None
    # 8 / 2^8 is above 0.05 / 4 and below 0.05.
    few = dataclasses.replace(test, n_patients=8)
    assert power(few, 0.05, 4) is smallest_effect(few, 4) is None
    assert power(few, 0.05, 1) == power(test, 0.05, 1)


def test_error_and_freedom_are_those_of_the_t_test():
    (a, b), patients = arms(np.random.default_rng(17), 4, 20, (0.2, 0.1, 0.2), gains=(0.2, 0))
    found = paired_test(a, b, patients, seed=0)
    t = abs(found.difference) / found.error
    assert found.p_seeds == pytest.approx(2 * stats.t.sf(t, found.freedom))
    assert found.freedom == 3


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("times", [0.5, 1.0, 1.5])
def test_stated_power_is_on_average_the_noncentral_ts(seeds, times):
    """Of seeds alone √V is χ's, and the power before it is known is SciPy's noncentral t."""
    freedom, level = seeds - 1, 0.05 / 4
    needed = stats.t.isf(level / 2, freedom)
    errors = np.sqrt(np.random.default_rng(18).chisquare(freedom, 4000) / freedom)
    test = dataclasses.replace(differing(0, 0.01, 0.001), freedom=freedom)
    effect = times * needed
    stated = [power(dataclasses.replace(test, error=error), effect, 4) for error in errors]
    assert np.mean(stated) == pytest.approx(stats.nct.sf(needed, freedom, effect), abs=0.045)


@pytest.mark.parametrize(
    ("runs", "patients", "effect"), [(3, 50, 0.1), (5, 12, 0.07), (8, 50, 0.04)]
)
def test_stated_power_is_the_share_that_is_shown(runs, patients, effect):
    """Better, and excluded, as the clearest of four; `benchmarks verdicts` has a larger grid."""
    rng = np.random.default_rng([19, runs, patients])
    others, found = [None] * 3, []
    for _ in range(500):
        x = 0.03 * (rng.normal(size=(runs, 1)) + rng.normal(size=patients))
        x += 0.06 * rng.normal(size=(runs, patients))
        test, alike = (
            statistics.paired_test(d, np.zeros_like(d), np.arange(patients), seed=0, effect=effect)
            for d in (x + effect, x)
        )
        shown = verdicts([test, *others])[0].verdict == "better"
        excluded = verdicts([alike, *others])[0].excluded
        found.append((power(test, effect, 4), shown, excluded))
    stated, better, excluded = np.mean(found, axis=0)
    assert 0.15 < stated < 0.9
    # The standard error of 500 is 0.02.
    assert (better, excluded) == pytest.approx((stated, stated), abs=0.05 + 0.03)


def test_p_is_uniform_where_only_patients_vary():
    rng = np.random.default_rng(11)
    found = []
    for seed in range(300):
        (a, b), patients = arms(rng, 1, 14, (0.5, 0, 0.3))
        found.append(paired_test(a, b, patients, seed).p)
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("spreads", [(1, 0, 0.3), (0.3, 0.2, 0.5), (0.3, 1, 0.3)])
def test_under_no_effect(spreads):
    """Whatever varies, the interval covers 0 and the verdict is right; `p` alone is not enough.

    The scores are drawn anew each time; two sets of resamples, which are costly, take turns.
    """
    rng = np.random.default_rng(12)
    repeats = 1000
    covered = false = low_p = cell = 0
    for seed in range(repeats):
        (a, b), patients = arms(rng, 3, 12, spreads)
        found = paired_test(a, b, patients, seed % 2)
        covered += found.interval_95[0] <= 0 <= found.interval_95[1]
        false += verdicts([found])[0].verdict in ("better", "worse")
        low_p += found.p < 0.05
        if seed % 4 == 0:
            low, high = cell_summary(0.5 + a / 100, patients, seed % 8 // 4).interval_95
            cell += low <= 0.5 <= high
    assert covered / repeats >= 0.93
    assert false / repeats <= 0.06
    assert cell / (repeats / 4) >= 0.93
    if spreads[1] == 1:
        assert low_p / repeats > 0.5


@pytest.mark.parametrize(
    ("runs", "patients"), [(2, 12), (2, 50), (3, 50), (3, 114), (5, 50), (8, 12), (8, 50)]
)
@pytest.mark.parametrize("gains", [(0, 0, 0, 0), (0, 0, EFFECT, EFFECT), (EFFECT,) * 4])
def test_the_familys_promise(runs, patients, gains):
    """A false verdict in at most 6 % of families of four; `benchmarks verdicts` has a larger grid.

    Of the differences, sd 0.03 over seeds, 0.03 over patients, 0.06 of the rest.
    """
    rng = np.random.default_rng([runs, patients])
    repeats, false = 200, 0
    for _ in range(repeats):
        x = np.reshape(gains, (4, 1, 1))
        x = x + 0.03 * (rng.normal(size=(4, runs, 1)) + rng.normal(size=(4, 1, patients)))
        x = x + 0.06 * rng.normal(size=(4, runs, patients))
        tests = [paired_test(d, np.zeros_like(d), np.arange(patients), seed=0) for d in x]
        false += any(
            found.excluded or found.verdict == "worse"
            if gain
            else found.verdict in ("better", "worse")
            for found, gain in zip(verdicts(tests), gains, strict=True)
        )
    assert false / repeats <= 0.06
