"""Table 2 with seeds: cells with intervals, and tests between arms.

A cell is scores [S, N]: S runs of one arm, one per seed, on the same N test images. Scores are in
0…1, and more is better: Dice, or 1 for a right class and 0 for a wrong one, whose mean is the
accuracy. Intervals are clipped to the possible range of scores and differences. Runs of one seed in
two arms have the same few labels, order and initial weights of the head, so arms are compared seed
by seed.

All cells of a task have the same images, for every arm and any number of finished seeds: those with
a score, which depends on the truth only (`results.collect`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import special

from tf_dicom_ce.metrics import bootstrap

_RESAMPLES = 2000
_FLIPS = 10_000
_EXACT = 12  # up to this number of patients, all flips are tried, 2¹² = 4,096
_ROUNDING = 1e-12  # scores are about 1 in size; smaller differences are rounding
_LEVEL = 0.05  # of a family


@dataclass(frozen=True)
class CellSummary:
    """One cell of the table.

    `sd_images`, `bootstrap_mean` and `bootstrap_sd` are those of one run, averaged over the seeds.
    They say nothing about seeds, and more seeds do not make them smaller.
    """

    mean: float  # over the images of each seed, then over the seeds
    sd_seeds: float | None  # sample standard deviation of the seeds' means; None for one seed
    sd_images: float | None  # sample standard deviation over the images; None for one image
    bootstrap_mean: float  # the paper's: mean over ten resamples of the patients
    bootstrap_sd: float  # the paper's ± of Table 2: sample standard deviation of these ten means
    interval_95: tuple[float, float] | None  # as in PairedTest, of the mean
    n_images: int
    n_patients: int
    n_seeds: int


@dataclass(frozen=True)
class PairedTest:
    """Arm a against arm b on the same patients, seed by seed.

    `p` covers the choice of patients and takes the trained runs as given. `p_seeds` and
    `interval_95` also cover the choice of seeds. With one seed, nothing covers its choice.
    """

    difference: float  # a − b, mean over patients
    interval_95: tuple[float, float] | None  # of the difference; None for one patient
    p: float  # of `test`, two-sided
    p_seeds: float | None  # of the t test with random patients and seeds; None for one patient
    p_excluded: float  # the larger of both p of a − b = Δ; or 1, see `paired_test`
    error: float | None  # √V, the standard error of the t test; None for one patient
    freedom: int  # degrees of freedom of the t test
    effect_size: float | None  # Cohen's d_z of one run: difference / sd of patients; None at sd 0
    share_better: float  # share of patients in a run with a above b
    share_worse: float  # with a below b; the two shares differ by Cliff's delta for pairs
    n_patients: int
    n_seeds: int
    test: str  # name of the test


@dataclass(frozen=True)
class Verdict:
    """The verdict on a against b in a family of comparisons."""

    verdict: str  # "better", "worse", "excluded" or "not shown"
    excluded: bool  # whether a gain of Δ or more is excluded; with "better": better by less than Δ
    p: float  # adjusted, of no difference
    p_excluded: float  # adjusted, of a gain of Δ or more


def cell_summary(scores: np.ndarray, patients: np.ndarray, seed: int) -> CellSummary:
    """Mean, spread and 95 % interval of one cell.

    The mean m = Σ_s Σ_i x_si / (S N) gives images equal weights, as in the paper. Its interval is
    that of `_two_level` on z_sp = m + (P / N) Σ_{i of p} (x_si − m), whose means are those of the
    seeds (a linearised ratio).

    If every patient has one image, `bootstrap_sd` is about `sd_images` / √N. For scores in 0 … 1 it
    is at most about √(m (1 − m) / N) ≤ 0.5 / √N.

    Scores are float [S, N], none NaN, patients [N]; `seed` is that of the resampling.
    """
    means = scores.mean(axis=1)
    mean = float(means.mean())
    counts, sums = _by_patient(scores - mean, patients)
    values = mean + sums * len(counts) / scores.shape[1]

    def by_seed(positions):
        return {str(s): mean for s, mean in enumerate(scores[:, positions].mean(axis=1))}

    ten = np.stack([*bootstrap(by_seed, patients, 10, seed).values()])  # [S, 10]
    return CellSummary(
        mean=mean,
        sd_seeds=float(means.std(ddof=1)) if len(means) > 1 else None,
        sd_images=_sd(scores),
        bootstrap_mean=float(ten.mean()),
        bootstrap_sd=_sd(ten),
        interval_95=_within(_two_level(values, seed)[0], 0, 1),
        n_images=scores.shape[1],
        n_patients=len(counts),
        n_seeds=len(scores),
    )


def paired_test(
    a: np.ndarray, b: np.ndarray, patients: np.ndarray, seed: int, effect: float
) -> PairedTest:
    """Tests by patient whether arm a differs from arm b, and whether a is better by Δ = `effect`.

    d_sp is the mean over the images of patient p in the run of a with seed s, minus that in the run
    of b; d_p is its mean over the seeds. The difference is the mean of d_p. A patient with many
    images has the same weight as one with few, so it may differ from the difference of the cells'
    means. Effect size and shares are computed from d_sp, run by run: more seeds do not make an
    effect larger.

    `p`: T = |Σ d_p|. If the arms were equal, d_p and −d_p would be equally likely (assumption:
    independent patients, d_p symmetric about 0). Up to 12 patients, all 2^P flips of signs are
    tried, and p is the share with T or more. Beyond, 10,000 random flips are tried, and
    p = (1 + count) / (1 + 10,000) (Phipson & Smyth 2010). Five patients cannot reach p < 0.05,
    2 / 2⁵ = 0.0625.

    `p_seeds`, `interval_95`: t = |mean| / √V and the interval of `_two_level` on d_sp.

    `p_excluded`: the larger p of the same two tests on d_sp − Δ. It is 1 if the interval reaches Δ,
        or without a spread, which right or wrong answers on few patients may lack by chance. The
        test is one-sided, p and interval are two-sided: with a true Δ, p is below 0.05 in 2.5 % of
        cases.

    a and b are float [S, N], none NaN, of the same seeds and images in the same order, patients
    [N]; `seed` is that of flips and resampling; `effect` is above 0.
    """
    counts, sums = _by_patient(np.concatenate([a, b]), patients)
    by_seed = (sums[: len(a)] - sums[len(a) :]) / counts
    by_seed[np.abs(by_seed) < _ROUNDING] = 0
    differences = by_seed.mean(axis=0)
    p, test = _sign_flip(differences, seed)
    interval, error, freedom = _two_level(by_seed, seed)
    p_excluded = 1.0
    if interval and interval[1] < effect and error > _ROUNDING:
        gap = differences - effect
        p_excluded = max(_sign_flip(gap, seed)[0], _t_test(gap.mean(), error, freedom))
    sd = _sd(by_seed) or 0.0
    return PairedTest(
        difference=float(differences.mean()),
        interval_95=_within(interval, -1, 1),
        p=p,
        p_seeds=_t_test(differences.mean(), error, freedom),
        p_excluded=p_excluded,
        error=error,
        freedom=freedom,
        effect_size=float(differences.mean() / sd) if sd > _ROUNDING else None,
        share_better=float((by_seed > 0).mean()),
        share_worse=float((by_seed < 0).mean()),
        n_patients=len(counts),
        n_seeds=len(a),
        test=test,
    )


def standard_error(x: np.ndarray) -> tuple[np.ndarray, int]:
    """√V of the mean of x_sp, where both seeds and patients are random, and its degrees of freedom.

    Seeds are crossed with patients, as readers with cases in a reader study (Obuchowski & Rockette
    1995). With x_p the mean over the seeds, x_s the mean over the patients,

        V = var(x_p) / P + max(0, M − E),    M = var(x_s) / S,

    and E = Σ (x_sp − x_s − x_p + x)² / ((S − 1)(P − 1) S P), the part of M that var(x_p) / P
    already contains; M = 0 for one seed. t = x / √V has f = min(S, P) − 1 degrees of freedom, those
    of the least known part of V; f = P − 1 for one seed. Satterthwaite's (1946) degrees of freedom
    would be more if M is small. But with few seeds M may be small by chance, and they then promise
    too much: in up to 24 % of families of four without any effect, one was "shown" (docs/study.md).

    Takes x, float [..., S, P] with P of 2 or more; returns √V [...] and f.
    """
    seeds, patients = x.shape[-2:]
    of_patients, of_seeds = x.mean(-2, keepdims=True), x.mean(-1, keepdims=True)
    variance = of_patients.var((-2, -1), ddof=1) / patients
    if seeds == 1:
        return np.sqrt(variance), patients - 1
    rest = x - of_seeds - of_patients + x.mean((-2, -1), keepdims=True)
    rest = (rest**2).sum((-2, -1)) / ((seeds - 1) * (patients - 1) * seeds * patients)
    variance += np.maximum(0, of_seeds.var((-2, -1), ddof=1) / seeds - rest)
    return np.sqrt(variance), min(seeds, patients) - 1


def shaffer(p_values: Sequence[Sequence[float]]) -> np.ndarray:
    """Adjusted p-values [K, 2] that control the chance of any false rejection (Shaffer 1986).

    Each of K comparisons has two hypotheses: a − b is 0, and a − b is Δ or more. The steps are
    Holm's (1979), from the smallest p on: the adjusted p is the largest min(1, n p) so far. But n
    is not the number of remaining hypotheses. At most one hypothesis of a comparison is true, so a
    comparison counts 1 while the first one is left. It counts 1/2 while only the second is left,
    because that has a two-sided p but is rejected on one side only. n is the sum, at least 1. Any
    dependence is allowed.
    """
    p_values = np.asarray(p_values, float)
    left, adjusted, highest = np.ones((len(p_values), 2)), np.empty((len(p_values), 2)), 0.0
    for place in np.argsort(p_values, axis=None, kind="stable"):
        at = divmod(place, 2)
        count = max(1.0, (left * (1, 0.5)).max(axis=1).sum())
        highest = max(highest, min(1.0, count * p_values[at]))
        adjusted[at], left[at] = highest, 0
    return adjusted


def verdicts(tests: Sequence[PairedTest | None]) -> list[Verdict | None]:
    """The verdict of every test of one family.

    A difference must hold for these runs and for other runs: the p of no difference is the larger
    of `p` and `p_seeds` (intersection-union test, Berger 1982). `shaffer` adjusts this p and
    `p_excluded`. "better" and "worse" need the first below 0.05 and an interval without 0; else
    "excluded" needs the second below 0.05. Otherwise the verdict is "not shown", which does not
    mean "equal".

    A family is all tests of one claim or one table. None stands for a test whose runs are not done.
    It counts as p = 1, so that early results are judged as strictly as later ones, and gets None. A
    test with one seed also counts as p = 1, because one run says nothing about its arm.
    """
    raw = [
        (max(t.p, t.p_seeds), t.p_excluded) if t and t.interval_95 and t.n_seeds > 1 else (1.0, 1.0)
        for t in tests
    ]
    found: list[Verdict | None] = []
    for test, (p, p_excluded) in zip(tests, shaffer(raw), strict=True):
        if test is None:
            found.append(None)
            continue
        low, high = test.interval_95 or (0, 0)
        excluded = bool(p_excluded < _LEVEL)
        verdict = "excluded" if excluded else "not shown"
        if p < _LEVEL and (low > 0 or high < 0):
            verdict = "better" if low > 0 else "worse"
        found.append(Verdict(verdict, excluded, float(p), float(p_excluded)))
    return found


def power(test: PairedTest, effect: float, comparisons: int) -> float | None:
    """Probability that a true difference would have been "better", given this comparison's spread.

        Φ((effect − d) / √V),    d: the least difference that is shown, see `_needed`,

    as the clearest of `comparisons`, without help from the others. With `effect` = Δ it is also the
    power of "excluded" if the arms are equal. None if d is None.

    √V is the value that was found. The noncentral t distribution would give the power before the
    study: it averages over √V, whose true value is unknown (docs/study.md compares the two).
    """
    needed = _needed(test, comparisons)
    return None if needed is None else float(special.ndtr((effect - needed) / test.error))


def smallest_effect(test: PairedTest, comparisons: int, power: float = 0.8) -> float | None:
    """The difference with this `power`, d + z_power √V; None if d is None, see `_needed`."""
    needed = _needed(test, comparisons)
    return None if needed is None else float(needed + special.ndtri(power) * test.error)


def _needed(test: PairedTest, comparisons: int) -> float | None:
    """The least difference that is shown as the clearest: d = max(t √V, m − low) + √V / 20.

    t is that of a two-sided p of 0.05 / comparisons, m − low the distance from the difference to
    the lower end of its interval, which must not contain 0. √V / 20 is there because 1 / √V is on
    average too large: without it, stated powers were on average too high, by up to 5.5 points.

    None for one seed, without a spread, or with so few patients that the flips decide instead of
    √V: fewer than four of their possible p, 2 / 2^P, 4 / 2^P, …, are up to 0.05 / comparisons.
    """
    level = _LEVEL / comparisons
    if test.n_seeds < 2 or 8 / 2**test.n_patients > level or test.error < _ROUNDING:
        return None
    of_t = float(special.stdtrit(test.freedom, 1 - level / 2)) * test.error
    return max(of_t, test.difference - test.interval_95[0]) + test.error / 20


def _by_patient(scores: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each patient's images [P], and sums over them [S, P]."""
    _, which, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return counts, np.stack([np.bincount(which, row) for row in scores])


def _within(interval: tuple[float, float] | None, low: float, high: float) -> tuple | None:
    """The part of an interval between two limits."""
    return interval and (max(interval[0], low), min(interval[1], high))


def _sd(values: np.ndarray) -> float | None:
    """Sample standard deviation of each row, mean over the rows; None for one column."""
    return float(values.std(axis=1, ddof=1).mean()) if values.shape[1] > 1 else None


def _sign_flip(differences: np.ndarray, seed: int) -> tuple[float, str]:
    """Two-sided p of `paired_test` for differences [P], and the test's name."""
    # Flips that give the same sum in another order must count as the same.
    least = abs(differences.sum()) - _ROUNDING * len(differences)
    exact = len(differences) <= _EXACT
    sums = np.abs(_flips(len(differences), None if exact else seed) @ differences)
    if exact:
        return float((sums >= least).mean()), "sign-flip permutation test by patient, exact"
    p = (1 + int((sums >= least).sum())) / (1 + _FLIPS)
    return p, f"sign-flip permutation test by patient, {_FLIPS:,} random flips"


@lru_cache(maxsize=2)
def _flips(patients: int, seed: int | None) -> np.ndarray:
    """Signs, float [flips, P], shared by all tests of a report: random, or all without a seed."""
    if seed is None:
        return np.array(list(product((-1.0, 1.0), repeat=patients)))
    return np.random.default_rng(seed).choice([-1.0, 1.0], (_FLIPS, patients))


def _t_test(difference: float, error: float | None, freedom: int) -> float | None:
    """Two-sided p of a mean `difference` under the hypothesis 0; None without a standard error."""
    if error is None:
        return None
    if error < _ROUNDING:
        return float(abs(difference) < _ROUNDING)
    return float(2 * special.stdtr(freedom, -abs(difference) / error))


def _two_level(x: np.ndarray, seed: int) -> tuple:
    """95 % interval, `standard_error` and its degrees of freedom of the mean of x_sp.

    The interval has the length of that of t, 2 t_{f, .975} √V. The position of x in it is that in
    the 2.5 and 97.5 percentiles of 2,000 resamples with replacement of P patients and S seeds (Owen
    2007, "pigeonhole bootstrap"): skewed scores have one longer side. The effects of seeds are
    assumed to be about normal; few seeds cannot show it.

    Takes x, float [S, P]; returns None, None and 0 for one patient.
    """
    if x.shape[1] < 2:
        return None, None, 0
    (error, freedom), mean = standard_error(x), float(x.mean())
    error = float(error)
    if error < _ROUNDING:
        return (mean, mean), error, freedom
    of_seed, of_patient = _weights(*x.shape, seed)
    means = (of_seed * (of_patient @ x.T)).sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    stretch = 2 * special.stdtrit(freedom, 0.975) * error / (high - low)
    interval = (float(mean + stretch * (low - mean)), float(mean + stretch * (high - mean)))
    return interval, error, freedom


@lru_cache(maxsize=2)
def _weights(seeds: int, patients: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of seeds and of patients in resamples, [resamples, S] and [resamples, P]."""
    rng = np.random.default_rng(seed)
    of_seeds, of_patients = (
        rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES) / count
        for count in (seeds, patients)
    )
    return of_seeds, of_patients
