"""Measures how often a study's verdicts are false, or show an effect; and power (25 min).

    OMP_NUM_THREADS=1 python -m benchmarks verdicts      for docs/study.md

Draws families of four comparisons, as of one question under four conditions, and judges them with
the study's own `paired_test` and `verdicts`. The difference of two arms for seed s and patient p is

    d_sp = δ + σ_S u_s + σ_P v_p + σ_R w_sp,

with u, v, w of variance 1. Seeds and patients are drawn for each condition separately, or u and v
are the same in all four. Prints Markdown: false families in per cent, with δ = 0, δ = Δ, or each in
half of the conditions; shares of comparisons that are shown; and power, as stated by `power` and as
found. Every row has the same seed.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
from scipy import special, stats

from tf_dicom_ce.study.statistics import (
    PairedTest,
    Verdict,
    paired_test,
    power,
    smallest_effect,
    standard_error,
    verdicts,
)

EFFECT = 0.048  # Δ, what the paper gains by tags
CONDITIONS = 4
FAMILIES = {1: "alone", CONDITIONS: "clearest of four"}  # by number of conditions
SEEDS, PATIENTS = (2, 3, 5, 8), (12, 50, 114)
GRID = tuple(itertools.product(SEEDS, PATIENTS))
GRID_OF_POWER = tuple(itertools.product(SEEDS[1:], (10, *PATIENTS)))
DIFFERENCES = (0.02, 0.05, 0.10, 0.20)
SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    # The deviations of each arm are exponential with sd 2^-0.5; arms are alike.
    "skewed arms": lambda rng, size: rng.laplace(size=size) / np.sqrt(2),
    "heavy (t, 3)": lambda rng, size: rng.standard_t(3, size) / np.sqrt(3),
    # Arms with the same mean that are not alike: one sometimes fails, the other never does.
    "skewed differences": lambda rng, size: rng.exponential(size=size) - 1,
}
RIGHT_OR_WRONG = "right or wrong"  # one image of each patient, right with probability 0.6 + …
RARE = "few patients"  # only a share δ of the patients differ, by 1, and in all runs
LIKE_OURS = (0.03, 0.03, 0.06)
MUCH_BY_SEED = (0.08, 0.0, 0.16)
SEEDS_ALONE = (0.08, 0.0, 0.0)


@dataclass(frozen=True)
class Scenario:
    """The distribution of differences.

    Attributes:
        spreads: σ_S, σ_P, σ_R.
        shape: Name of u's, v's and w's distribution.
        shared: Whether u and v are the same in all conditions.
        differences: δ of each condition.
    """

    spreads: tuple[float, float, float]
    shape: str = "normal"
    shared: bool = False
    differences: tuple[float, ...] = (0.0,) * CONDITIONS


# The spreads of the differences in docs/results, see docs/study.md.
SPREADS = (LIKE_OURS, MUCH_BY_SEED, (0.08, 0.11, 0.03), (0, 0.06, 0.10))
SPREADS += ((0.19, 0.06, 0.35), (0.06, 0.46, 0.10))
SCENARIOS = (
    *map(Scenario, SPREADS),
    Scenario((0, 0, 0.10)),
    Scenario(SEEDS_ALONE),  # the limit is exactly t: 1 - (1 - 0.05 / 4)^4 = 4.9 %
    *(Scenario(spreads, shared=True) for spreads in (*SPREADS[:2], SEEDS_ALONE)),
    *(Scenario(*of) for of in itertools.product(SPREADS[:2], SHAPES) if of[1] != "normal"),
    Scenario((0.10, 0.10, 0), RIGHT_OR_WRONG),
)
#: Only with a δ: t exactly where Δ is many spreads, so that all else is seen, too.
WITH_A_GAIN = (Scenario((0.01, 0, 0)), Scenario((0, 0, 0), RARE))
#: δ in the families whose verdicts may be false, and what they are called.
FALSE = {
    "δ = 0": (0.0,) * CONDITIONS,
    "δ = Δ": (EFFECT,) * CONDITIONS,
    "δ = 0 in two conditions, Δ in two": (0.0, EFFECT) * (CONDITIONS // 2),
}


def draw(scenario: Scenario, seeds: int, patients: int, rng) -> Iterator[tuple]:
    """Scores [S, P] of two arms under each condition."""
    of_seed, of_patient, rest = scenario.spreads
    if scenario.shape == RARE:
        for difference in scenario.differences:
            differ = np.tile((rng.random(patients) < difference).astype(float), (seeds, 1))
            yield differ, np.zeros_like(differ)
        return
    if scenario.shape == RIGHT_OR_WRONG:
        for difference in scenario.differences:
            level = 0.6 + 0.2 * rng.normal(size=patients)
            arms = [
                level
                + (of_seed * rng.normal(size=(seeds, 1)) + of_patient * rng.normal(size=patients))
                / np.sqrt(2)
                for _ in range(2)
            ]
            # Cut so that the one is as much less likely to be right for everybody.
            a, b = (np.maximum(arm, difference) for arm in arms)
            arms = np.minimum(a, 1), np.minimum(b, 1) - difference
            yield tuple((rng.random((seeds, patients)) < arm).astype(float) for arm in arms)
        return
    unit, conditions = SHAPES[scenario.shape], 1 if scenario.shared else CONDITIONS
    x = np.reshape(scenario.differences, (-1, 1, 1))
    x = x + of_seed * unit(rng, (conditions, seeds, 1))
    x = x + of_patient * unit(rng, (conditions, 1, patients))
    x = x + rest * unit(rng, (CONDITIONS, seeds, patients))
    yield from ((d, np.zeros_like(d)) for d in x)


def tested(a: np.ndarray, b: np.ndarray) -> PairedTest:
    """A comparison with the flips and resamples of a report."""
    return paired_test(a, b, np.arange(a.shape[1]), seed=0, effect=EFFECT)


def judge(family: Sequence[tuple]) -> list[Verdict]:
    return verdicts([tested(a, b) for a, b in family])


def is_false(found: Verdict, difference: float) -> bool:
    """Whether a verdict on a δ of 0, or of Δ or more, says what is not so."""
    if difference:
        return found.excluded or found.verdict == "worse"
    return found.verdict in ("better", "worse")


def by_t_alone(x: np.ndarray) -> list[SimpleNamespace]:
    """Tests of differences [K, S, P] as if flips and resamples agreed with whatever t allows."""
    mean, (error, freedom) = x.mean((-2, -1)), standard_error(x)
    gap = np.maximum(EFFECT - mean, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.stack([mean, gap]) / error
    p = np.nan_to_num(2 * special.stdtr(freedom, -abs(t)), nan=1)
    return [
        SimpleNamespace(p=0, p_seeds=p0, p_excluded=p1, interval_95=(m, m), n_seeds=x.shape[1])
        for m, p0, p1 in zip(mean, *p, strict=True)
    ]


def has_false(family: Sequence[tuple], differences: Sequence[float]) -> bool:
    """Whether a family has a false verdict.

    Flips and resamples, which are slow, can only take a verdict away. So they are left out in the
    many families in which t alone is never wrong.
    """
    t_alone = verdicts(by_t_alone(np.stack([a - b for a, b in family])))
    if not any(map(is_false, t_alone, differences)):
        return False
    return any(map(is_false, judge(family), differences))


def false_families(scenario: Scenario, seeds: int, patients: int, families: int, rng) -> float:
    """Share of families with a false verdict."""
    found = []
    for _ in range(families):
        family = [*draw(scenario, seeds, patients, rng)]
        found.append(has_false(family, scenario.differences))
    return float(np.mean(found))


def false_by_looking(scenario: Scenario, patients: int, families: int, rng) -> float:
    """Share of families with a false verdict for the first 2, 3, … or 8 seeds."""
    found = []
    for _ in range(families):
        family = [*draw(scenario, 8, patients, rng)]
        looks = ([(a[:seeds], b[:seeds]) for a, b in family] for seeds in range(2, 9))
        found.append(any(has_false(look, scenario.differences) for look in looks))
    return float(np.mean(found))


def shown(scenario: Scenario, seeds: int, patients: int, families: int, rng) -> float:
    """Share of comparisons with a true difference that are better; of none, that are excluded."""
    found = []
    for _ in range(families):
        of_family = judge([*draw(scenario, seeds, patients, rng)])
        pairs = zip(of_family, scenario.differences, strict=True)
        found += [v.verdict == ("better" if difference else "excluded") for v, difference in pairs]
    return float(np.mean(found))


def is_better(test: PairedTest, conditions: int) -> bool:
    """Whether it is better as the clearest of its family: the others are never rejected."""
    return verdicts([test] + [None] * (conditions - 1))[0].verdict == "better"


def powers(scenario: Scenario, seeds: int, patients: int, families: int, rng) -> list[str]:
    """For each of `FAMILIES`, mean of the stated power, and share that is better, in per cent."""
    found = []
    for _ in range(families):
        pairs = zip(draw(scenario, seeds, patients, rng), scenario.differences, strict=True)
        for (a, b), difference in pairs:
            test = tested(a, b)
            found.append([(power(test, difference, n), is_better(test, n)) for n in FAMILIES])
    return [f"{stated:.0f} / {better:.0f}" for stated, better in 100 * np.mean(found, axis=0)]


def of_smallest(scenario: Scenario, seeds: int, patients: int, families: int, rng) -> list[str]:
    """For each of `FAMILIES`, share that is better by the smallest effect that it states."""
    found = []
    for _ in range(families):
        for a, b in draw(scenario, seeds, patients, rng):
            effects = [smallest_effect(tested(a, b), n) for n in FAMILIES]
            pairs = zip(effects, FAMILIES, strict=True)
            found.append([is_better(tested(a + effect, b), n) for effect, n in pairs])
    return [f"{share:.0f}" for share in 100 * np.mean(found, axis=0)]


def cells(measure: Callable, scenario: Scenario, options: argparse.Namespace) -> list:
    """The measure for each size, shares in per cent."""
    families = options.families if measure is false_families else max(1, options.families // 4)
    rng = np.random.default_rng(options.seed)
    grid = GRID_OF_POWER if measure in (powers, of_smallest) else GRID
    found = (measure(scenario, *size, families, rng) for size in grid)
    return [f"{100 * f:.1f}" if isinstance(f, float) else f for f in found]


def by_condition(measure: Callable, scenario: Scenario, options: argparse.Namespace) -> Iterator:
    """Each of `FAMILIES` in words, and its cells."""
    return zip(FAMILIES.values(), np.transpose(cells(measure, scenario, options)), strict=True)


def name(scenario: Scenario) -> str:
    return ", ".join(f"{sd:g}" for sd in scenario.spreads)


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def heading(title: str, *columns: str, grid: Sequence = GRID) -> None:
    print(f"\n{title}, by seeds and patients\n")
    row(*columns, *(f"{seeds}, {patients}" for seeds, patients in grid))
    row(*["---"] * len(columns), *["---:"] * len(grid))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--families", type=int, default=4000, metavar="N", help="a quarter of them for power"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")


def run(options: argparse.Namespace) -> None:
    for where, differences in FALSE.items():
        heading(
            f"Families with a false verdict, in per cent, {where}",
            *("σ_S, σ_P, σ_R", "distribution", "conditions"),
        )
        for s in (*SCENARIOS, *WITH_A_GAIN) if any(differences) else SCENARIOS:
            s = replace(s, differences=differences)
            conditions = "share u, v" if s.shared else "own"
            row(name(s), s.shape, conditions, *cells(false_families, s, options))
    print("\nThe same where one looks after every seed from 2 to 8, 50 patients, δ = 0\n")
    for s in SCENARIOS[:2]:
        share = false_by_looking(s, 50, options.families, np.random.default_rng(options.seed))
        print(f"- {name(s)}: {100 * share:.1f}", flush=True)
    heading("Comparisons shown, in per cent, δ in all conditions", "σ_S, σ_P, σ_R", "δ", "verdict")
    for spreads, difference in itertools.product(SPREADS[:4], (0.0, *DIFFERENCES[:3])):
        s = Scenario(spreads, differences=(difference,) * CONDITIONS)
        verdict = "better" if difference else "excluded"
        row(name(s), f"{difference:g}", verdict, *cells(shown, s, options))
    heading(
        "Power stated / share shown better, in per cent",
        *("σ_S, σ_P, σ_R", "δ", "condition"),
        grid=GRID_OF_POWER,
    )
    for spreads, difference in itertools.product((*SPREADS[:4], SEEDS_ALONE), DIFFERENCES[1:]):
        s = Scenario(spreads, differences=(difference,) * CONDITIONS)
        for condition, of_condition in by_condition(powers, s, options):
            row(name(s), f"{difference:g}", condition, *of_condition)
    heading(
        "Share shown better, in per cent, where δ is stated to be shown in 80 %",
        *("σ_S, σ_P, σ_R", "condition"),
        grid=GRID_OF_POWER,
    )
    for s in map(Scenario, (*SPREADS[:4], SEEDS_ALONE)):
        for condition, of_condition in by_condition(of_smallest, s, options):
            row(name(s), condition, *of_condition)
    print("\nStandard errors that a difference needs: alone, and as the clearest of four\n")
    row("seeds", *SEEDS)
    row(*["---:"] * (1 + len(SEEDS)))
    for what, level in (("alone", 0.05), ("of four", 0.05 / CONDITIONS)):
        row(what, *(f"{stats.t.isf(level / 2, seeds - 1):.1f}" for seeds in SEEDS))
