"""Table 2 with seeds: cells with intervals, and tests between arms.

A cell is scores [S, N]: S runs of one arm, one of each seed, on the same N test images. Of a score
more is better: Dice, or 1 where the class is right and else 0, whose mean is the accuracy. Runs of
one seed in two arms have the same few labels, order and first weights of the head, so arms are
compared seed by seed.

An image counts only where every run at hand has a score (not NaN). Dice is NaN where neither truth
nor prediction has the organ; so of the images without it stay only those on which all runs are
wrong (0), which tell no two arms apart. A patient without an image that counts is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.metrics import bootstrap

_RESAMPLES = 2000
_FLIPS = 10_000
_EXACT = 12  # up to so many patients all flips are tried, 2¹² = 4,096
_ROUNDING = 1e-12  # scores are about 1 in size; what differs by less is rounding


@dataclass(frozen=True)
class CellSummary:
    """One cell of the table, from the images and patients that count."""

    mean: float  # over the images of each seed, then over the seeds
    sd_seeds: float | None  # sample standard deviation of the seeds' means; None of one seed
    bootstrap_mean: float  # the paper's: over ten resamples of patients, seeds averaged
    bootstrap_sd: float  # the paper's ± of Table 2: of these ten; says nothing about seeds
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
    effect_size: float | None  # Cohen's d_z, mean / sd of the patients' differences; None at sd 0
    share_better: float  # of the patients, on which a is above b
    share_worse: float  # on which it is below; the two differ by Cliff's delta for pairs
    n_patients: int
    n_seeds: int
    test: str  # name of the test


def cell_summary(scores: np.ndarray, patients: np.ndarray, seed: int) -> CellSummary:
    """Mean, spread and 95 % interval of one cell.

    The mean m = Σ_s Σ_i x_si / (S N) weighs images alike, as the paper's. Its interval is that of
    `_two_level` on z_sp = m + (P / N) Σ_{i of p} (x_si − m), whose means are those of the seeds
    (a linearised ratio). Of two seeds that matter much it covers but 86 to 90 % of cases.

    Args:
        scores: float [S, N].
        patients: [N].
        seed: Of the resampling.
    """
    scores, patients = _complete(np.atleast_2d(scores), patients)
    means = scores.mean(axis=1)
    mean = float(means.mean())
    names, sums = _by_patient(scores - mean, patients)
    values = mean + sums * len(names) / scores.shape[1]
    ten = bootstrap(lambda k: {"mean": scores[:, k].mean()}, patients, 10, seed)["mean"]
    return CellSummary(
        mean=mean,
        sd_seeds=float(means.std(ddof=1)) if len(means) > 1 else None,
        bootstrap_mean=float(ten.mean()),
        bootstrap_sd=float(ten.std(ddof=1)),
        interval_95=_two_level(values, seed)[0],
        n_images=scores.shape[1],
        n_patients=len(names),
        n_seeds=len(scores),
    )


def paired_test(a: np.ndarray, b: np.ndarray, patients: np.ndarray, seed: int) -> PairedTest:
    """Whether arm a differs from arm b, by patient.

    d_sp is the mean over the images of patient p of the run of a with seed s less that of the run
    of b, and d_p its mean over the seeds. The difference is the mean of d_p: a patient with many
    images counts as much as one with few, so it need not be the difference of two cells' means.

    `p`: T = |Σ d_p|; were the arms alike, d_p and −d_p would be as likely (the assumption: patients
    independent, d_p symmetric about 0). Up to 12 patients all 2^P flips of signs are tried and p is
    their share with T or more; beyond, 10,000 random ones, and p = (1 + count) / (1 + 10,000)
    (Phipson & Smyth 2010). Five patients cannot reach p < 0.05, 2 / 2⁵ = 0.0625.

    `p_seeds`, `interval_95`: those of `_two_level` on d_sp.

    Args:
        a: float [S, N].
        b: float [S, N], the same seeds and images in the same order.
        patients: [N].
        seed: Of flips and resampling.
    """
    both, patients = _complete(np.concatenate([a, b]), patients)
    names, sums = _by_patient(both, patients)
    means = sums / _by_patient(np.ones((1, len(patients))), patients)[1]
    by_seed = means[: len(a)] - means[len(a) :]
    by_seed[np.abs(by_seed) < _ROUNDING] = 0
    differences = by_seed.mean(axis=0)
    p, test = _sign_flip(differences, seed)
    interval, p_seeds = _two_level(by_seed, seed)
    sd = differences.std(ddof=1) if len(names) > 1 else 0.0
    return PairedTest(
        difference=float(differences.mean()),
        interval_95=interval,
        p=p,
        p_seeds=p_seeds,
        effect_size=float(differences.mean() / sd) if sd > _ROUNDING else None,
        share_better=float((differences > 0).mean()),
        share_worse=float((differences < 0).mean()),
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


def verdicts(tests: Sequence[PairedTest]) -> list[tuple[float, str]]:
    """Holm's p-value and the verdict of every test of one family.

    A difference must hold for these runs and for other ones: Holm adjusts the larger of `p` and
    `p_seeds` (intersection-union test, Berger 1982). "better" and "worse" need that below 0.05, an
    interval without 0, and two seeds or more, since one run says nothing about its arm. All else is
    "not shown", which is not "the same".

    Args:
        tests: The family: all tests that one claim or one table rests on.
    """
    family = holm([1.0 if t.p_seeds is None else max(t.p, t.p_seeds) for t in tests])
    found = []
    for test, p in zip(tests, family, strict=True):
        low, high = test.interval_95 or (0, 0)
        shown = p < 0.05 and test.n_seeds > 1 and (low > 0 or high < 0)
        found.append((float(p), ("better" if low > 0 else "worse") if shown else "not shown"))
    return found


def _complete(scores: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images that count."""
    scores = np.asarray(scores, float)
    counts = ~np.isnan(scores).any(axis=0)
    if not counts.any():
        raise UserError("No test image has a score in all runs. Use images that show the organ.")
    return scores[:, counts], np.asarray(patients)[counts]


def _by_patient(scores: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names [P] and sums over each patient's images [S, P]."""
    names, which = np.unique(patients, return_inverse=True)
    return names, np.stack([np.bincount(which, row, len(names)) for row in scores])


def _sign_flip(differences: np.ndarray, seed: int) -> tuple[float, str]:
    """Two-sided p of `paired_test` for differences [P], and the test's name."""
    # Flips that give the same sum in another order must count as the same.
    least = abs(differences.sum()) - _ROUNDING * len(differences)
    if len(differences) <= _EXACT:
        signs = np.array(list(product((-1, 1), repeat=len(differences))))
        p = float((np.abs(signs @ differences) >= least).mean())
        return p, "sign-flip permutation test by patient, exact"
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (_FLIPS, len(differences)))
    p = (1 + int((np.abs(signs @ differences) >= least).sum())) / (1 + _FLIPS)
    return p, f"sign-flip permutation test by patient, {_FLIPS:,} random flips"


def _two_level(x: np.ndarray, seed: int) -> tuple:
    """95 % interval of the mean of x_sp, and two-sided p of its being 0, seeds and patients random.

    Seeds are crossed with patients, as readers with cases in a study of readers (Obuchowski &
    Rockette 1995). With x_p the mean over the seeds, x_s that over the patients,

        V = var(x_p) / P + max(0, M − E),    M = var(x_s) / S,

    and E = Σ (x_sp − x_s − x_p + x)² / ((S − 1)(P − 1) S P) the part of M that var(x_p) / P holds
    already; M = 0 of one seed. p is of t = x / √V with Satterthwaite's (1946) degrees of freedom,
    f = V² / ((var(x_p) / P)² / (P − 1) + M² / (S − 1)), of which the subtraction may make fewer
    than the smaller of S − 1 and P − 1: then it is that.

    The interval is of 2,000 resamples with replacement of P patients and S seeds (Owen 2007,
    "pigeonhole bootstrap"). Resamples of few seeds vary too little: where seeds matter most,
    percentiles of two or three cover the truth in 68 to 85 % of cases. So their distances from the
    mean are stretched by t_{f, .975} √V / (1.96 sd of the resamples); with one seed that is
    Hesterberg's (2015) expanded percentile interval. Assumes effects of seeds that are about
    normal: few cannot show it.

    Args:
        x: float [S, P].
        seed: Of the resampling.

    Returns:
        Low and high end, or None of one patient; p, or None.
    """
    seeds, patients = x.shape
    if patients < 2:
        return None, None
    rng = np.random.default_rng(seed)
    mean = float(x.mean())
    variance = float(x.mean(axis=0).var(ddof=1) / patients)
    spread = variance**2 / (patients - 1)
    if seeds > 1:
        of_seeds = x.mean(axis=1, keepdims=True)
        whole = of_seeds.var(ddof=1) / seeds
        rest = ((x - of_seeds - x.mean(axis=0) + mean) ** 2).sum()
        variance += max(0.0, whole - rest / ((seeds - 1) * (patients - 1) * x.size))
        spread += whole**2 / (seeds - 1)
    if variance < _ROUNDING**2:
        return (mean, mean), float(abs(mean) < _ROUNDING)
    draws = ((_weights(seeds, rng) @ x) * _weights(patients, rng)).sum(axis=1)
    least = min(seeds, patients) - 1 if seeds > 1 else patients - 1
    error, freedom = np.sqrt(variance), max(variance**2 / spread, least)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    stretch = stats.t.ppf(0.975, freedom) * error / (stats.norm.ppf(0.975) * draws.std())
    low, high = mean + stretch * (np.percentile(draws, [2.5, 97.5]) - mean)
    return (float(low), float(high)), p


def _weights(count: int, rng: np.random.Generator) -> np.ndarray:
    """Share of each of `count` in resamples of as many with replacement, [resamples, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES) / count
