"""Table 2 with seeds: cells with intervals, and tests between arms.

A cell is scores [S, N]: S runs of one arm, one of each seed, on the same N test images. A score is
in 0 … 1, and more is better: Dice, or 1 where the class is right and else 0, whose mean is the
accuracy. Intervals are cut to what scores and their differences can be. Runs of one seed in two
arms have the same few labels, order and first weights of the head, so arms are compared seed by
seed.

The images are the same in all cells of a task, whatever the arm and however many seeds are done:
those with a score, which the truth alone decides (`results.collect`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import stats

from tf_dicom_ce.metrics import bootstrap

_RESAMPLES = 2000
_FLIPS = 10_000
_EXACT = 12  # up to so many patients all flips are tried, 2¹² = 4,096
_ROUNDING = 1e-12  # scores are about 1 in size; what differs by less is rounding


@dataclass(frozen=True)
class CellSummary:
    """One cell of the table.

    `sd_images`, `bootstrap_mean` and `bootstrap_sd` are those of one run, averaged over the seeds.
    They say nothing about seeds, and more seeds do not make them smaller.
    """

    mean: float  # over the images of each seed, then over the seeds
    sd_seeds: float | None  # sample standard deviation of the seeds' means; None of one seed
    sd_images: float | None  # sample standard deviation over the images; None of one image
    bootstrap_mean: float  # the paper's: of the means of ten resamples of the patients
    bootstrap_sd: float  # the paper's ± of Table 2: sample standard deviation of these ten means
    interval_95: tuple[float, float] | None  # as in PairedTest, of the mean
    n_images: int
    n_patients: int
    n_seeds: int


@dataclass(frozen=True)
class PairedTest:
    """Arm a against arm b on the same patients, seed by seed.

    `p` covers the choice of patients and takes the trained runs as given: these runs differ.
    `p_seeds` and `interval_95` cover seeds, too: other runs on other patients would differ. Of one
    seed nothing covers the choice of it.
    """

    difference: float  # a − b, mean over patients
    interval_95: tuple[float, float] | None  # of the difference; None of one patient
    p: float  # of `test`, two-sided
    p_seeds: float | None  # of the t test with patients and seeds random; None of one patient
    effect_size: float | None  # Cohen's d_z of one run: difference / sd of patients; None at sd 0
    share_better: float  # of patients in a run, on which a is above b
    share_worse: float  # on which it is below; the two differ by Cliff's delta for pairs
    n_patients: int
    n_seeds: int
    test: str  # name of the test


def cell_summary(scores: np.ndarray, patients: np.ndarray, seed: int) -> CellSummary:
    """Mean, spread and 95 % interval of one cell.

    The mean m = Σ_s Σ_i x_si / (S N) weighs images alike, as the paper's. Its interval is that of
    `_two_level` on z_sp = m + (P / N) Σ_{i of p} (x_si − m), whose means are those of the seeds
    (a linearised ratio).

    Where every patient has one image, `bootstrap_sd` is about `sd_images` / √N. Of scores in 0 … 1
    it is at most about √(m (1 − m) / N) ≤ 0.5 / √N.

    Scores are float [S, N], none NaN, patients [N]; `seed` is that of the resampling.
    """
    means = scores.mean(axis=1)
    mean = float(means.mean())
    names, sums = _by_patient(scores - mean, patients)
    values = mean + sums * len(names) / scores.shape[1]

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
        n_patients=len(names),
        n_seeds=len(scores),
    )


def paired_test(a: np.ndarray, b: np.ndarray, patients: np.ndarray, seed: int) -> PairedTest:
    """Whether arm a differs from arm b, by patient.

    d_sp is the mean over the images of patient p of the run of a with seed s less that of the run
    of b, and d_p its mean over the seeds. The difference is the mean of d_p: a patient with many
    images counts as much as one with few, so it need not be the difference of two cells' means.
    Effect size and shares are of d_sp, run by run: more seeds do not make an effect larger.

    `p`: T = |Σ d_p|; were the arms alike, d_p and −d_p would be as likely (the assumption: patients
    independent, d_p symmetric about 0). Up to 12 patients all 2^P flips of signs are tried and p is
    their share with T or more; beyond, 10,000 random ones, and p = (1 + count) / (1 + 10,000)
    (Phipson & Smyth 2010). Five patients cannot reach p < 0.05, 2 / 2⁵ = 0.0625.

    `p_seeds`, `interval_95`: those of `_two_level` on d_sp.

    a and b are float [S, N], none NaN, of the same seeds and images in the same order, patients
    [N]; `seed` is that of flips and resampling.
    """
    names, sums = _by_patient(np.concatenate([a, b]), patients)
    means = sums / _by_patient(np.ones((1, len(patients))), patients)[1]
    by_seed = means[: len(a)] - means[len(a) :]
    by_seed[np.abs(by_seed) < _ROUNDING] = 0
    differences = by_seed.mean(axis=0)
    p, test = _sign_flip(differences, seed)
    interval, p_seeds = _two_level(by_seed, seed)
    sd = _sd(by_seed) or 0.0
    return PairedTest(
        difference=float(differences.mean()),
        interval_95=_within(interval, -1, 1),
        p=p,
        p_seeds=p_seeds,
        effect_size=float(differences.mean() / sd) if sd > _ROUNDING else None,
        share_better=float((by_seed > 0).mean()),
        share_worse=float((by_seed < 0).mean()),
        n_patients=len(names),
        n_seeds=len(a),
        test=test,
    )


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values [K] that hold the chance of any false one in the family (Holm 1979).

    Of the k-th smallest: max over j ≤ k of min(1, (K − j + 1) p_(j)). Any dependence is allowed.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    steps = np.minimum(1, np.arange(len(p_values), 0, -1) * p_values[order])
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def verdicts(tests: Sequence[PairedTest | None]) -> list[tuple[float | None, str | None]]:
    """Holm's p-value and the verdict of every test of one family.

    A difference must hold for these runs and for other ones: Holm adjusts the larger of `p` and
    `p_seeds` (intersection-union test, Berger 1982). "better" and "worse" need that below 0.05, an
    interval without 0, and two seeds or more, since one run says nothing about its arm. All else is
    "not shown", which is not "the same".

    The family is all tests that one claim or one table rests on. None stands for one whose runs are
    not done. It counts as p = 1, so that what is done first is judged no milder, and gets None,
    None.
    """
    larger = [max(t.p, t.p_seeds) if t and t.p_seeds is not None else 1.0 for t in tests]
    found: list[tuple[float | None, str | None]] = []
    for test, p in zip(tests, holm(larger), strict=True):
        if test is None:
            found.append((None, None))
            continue
        low, high = test.interval_95 or (0, 0)
        shown = p < 0.05 and test.n_seeds > 1 and (low > 0 or high < 0)
        found.append((float(p), ("better" if low > 0 else "worse") if shown else "not shown"))
    return found


def _by_patient(scores: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names [P] and sums over each patient's images [S, P]."""
    names, which = np.unique(patients, return_inverse=True)
    return names, np.stack([np.bincount(which, row, len(names)) for row in scores])


def _within(interval: tuple[float, float] | None, low: float, high: float) -> tuple | None:
    """The part of an interval between two limits."""
    return interval and (max(interval[0], low), min(interval[1], high))


def _sd(values: np.ndarray) -> float | None:
    """Sample standard deviation of each row, mean over the rows; None of one column."""
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
    """Signs, float [flips, P], which all tests of a report share: random, or all without a seed."""
    if seed is None:
        return np.array(list(product((-1.0, 1.0), repeat=patients)))
    return np.random.default_rng(seed).choice([-1.0, 1.0], (_FLIPS, patients))


def _two_level(x: np.ndarray, seed: int) -> tuple:
    """95 % interval of the mean of x_sp, and two-sided p of its being 0, seeds and patients random.

    Seeds are crossed with patients, as readers with cases in a study of readers (Obuchowski &
    Rockette 1995). With x_p the mean over the seeds, x_s that over the patients,

        V = var(x_p) / P + max(0, M − E),    M = var(x_s) / S,

    and E = Σ (x_sp − x_s − x_p + x)² / ((S − 1)(P − 1) S P) the part of M that var(x_p) / P holds
    already; M = 0 of one seed. p is of t = x / √V with f = min(S, P) − 1 degrees of freedom, those
    of the part of V that is known least; f = P − 1 of one seed. Satterthwaite's (1946) would be
    more where M is small. But M of few seeds is small by luck, too, and then they promise too much:
    in up to 24 % of families of four without any effect one was "shown" (docs/study.md).

    The interval is as long as that of t, 2 t_{f, .975} √V. Where x lies in it is as in the 2.5 and
    97.5 percentiles of 2,000 resamples with replacement of P patients and S seeds (Owen 2007,
    "pigeonhole bootstrap"): skewed scores have a longer side. Assumes effects of seeds that are
    about normal: few cannot show it.

    Of x, float [S, P], the interval, or None of one patient, and p, or None.
    """
    seeds, patients = x.shape
    if patients < 2:
        return None, None
    mean = float(x.mean())
    variance = float(x.mean(axis=0).var(ddof=1) / patients)
    if seeds > 1:
        of_seeds = x.mean(axis=1, keepdims=True)
        rest = ((x - of_seeds - x.mean(axis=0) + mean) ** 2).sum()
        rest /= (seeds - 1) * (patients - 1) * x.size
        variance += max(0.0, float(of_seeds.var(ddof=1)) / seeds - rest)
    if variance < _ROUNDING**2:
        return (mean, mean), float(abs(mean) < _ROUNDING)
    freedom = min(seeds, patients) - 1 if seeds > 1 else patients - 1
    error = np.sqrt(variance)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    of_seed, of_patient = _weights(seeds, patients, seed)
    low, high = np.percentile(((of_seed @ x) * of_patient).sum(axis=1), [2.5, 97.5])
    stretch = 2 * stats.t.ppf(0.975, freedom) * error / (high - low)
    return (float(mean + stretch * (low - mean)), float(mean + stretch * (high - mean))), p


@lru_cache(maxsize=2)
def _weights(seeds: int, patients: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of seeds and of patients in resamples of as many, [resamples, S], [resamples, P]."""
    rng = np.random.default_rng(seed)
    of_seeds, of_patients = (
        rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES) / count
        for count in (seeds, patients)
    )
    return of_seeds, of_patients
