"""How often a study's verdicts are false where no arm has an effect, or see one (20 min).

    OMP_NUM_THREADS=1 python -m benchmarks verdicts      for docs/study.md

Draws families of four comparisons, as of one question under four conditions, and judges them with
the study's own `paired_test` and `verdicts`. The difference of two arms for seed s and patient p is

    d_sp = δ + σ_S u_s + σ_P v_p + σ_R w_sp,

u, v, w of variance 1. Seeds and patients are drawn for each condition anew, or u and v are the
same in all four. Prints Markdown: false families in per cent, then shares of true differences seen.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from tf_dicom_ce.study.statistics import paired_test, verdicts

CONDITIONS = 4
SEEDS, PATIENTS = (2, 3, 5, 8), (12, 50, 114)
GRID = tuple(itertools.product(SEEDS, PATIENTS))
DIFFERENCES = (0.02, 0.05, 0.10)
SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    # The luck of each arm is exponential, its sd 2^-0.5; arms are alike.
    "skewed arms": lambda rng, size: rng.laplace(size=size) / np.sqrt(2),
    "heavy (t, 3)": lambda rng, size: rng.standard_t(3, size) / np.sqrt(3),
    # Arms of one mean that are not alike, as where one fails now and then and the other never.
    "skewed differences": lambda rng, size: rng.exponential(size=size) - 1,
}
RIGHT_OR_WRONG = "right or wrong"  # one image of each patient, right with probability 0.6 + …
LIKE_OURS = (0.03, 0.03, 0.06)
MUCH_BY_SEED = (0.08, 0.0, 0.16)


@dataclass(frozen=True)
class Scenario:
    """What is drawn.

    Attributes:
        spreads: σ_S, σ_P, σ_R.
        shape: Name of u's, v's and w's distribution.
        shared: Whether u and v are the same in all conditions.
        difference: δ.
        weight: Of its number of families.
    """

    spreads: tuple[float, float, float]
    shape: str = "normal"
    shared: bool = False
    difference: float = 0.0
    weight: float = 1.0


# What the differences of docs/results spread: see docs/study.md.
SPREADS = (LIKE_OURS, MUCH_BY_SEED, (0.08, 0.11, 0.03), (0, 0.06, 0.10))
SPREADS += ((0.19, 0.06, 0.35), (0.06, 0.46, 0.10))
SCENARIOS = (
    *map(Scenario, SPREADS),
    Scenario((0, 0, 0.10)),
    Scenario((0.08, 0, 0), weight=4),  # the limit: exactly t, 1 - (1 - 0.05 / 4)^4 = 4.9 %
    *(Scenario(spreads, shared=True) for spreads in SPREADS[:2]),
    Scenario((0.08, 0, 0), shared=True),
    *(
        Scenario(spreads, shape, weight=0.5)
        for shape in SHAPES
        if shape != "normal"
        for spreads in SPREADS[:2]
    ),
    Scenario((0.10, 0.10, 0), RIGHT_OR_WRONG, weight=0.5),
)


def draw(scenario: Scenario, seeds: int, patients: int, rng) -> Iterator[tuple]:
    """Scores [S, P] of two arms under each condition."""
    of_seed, of_patient, rest = scenario.spreads
    if scenario.shape == RIGHT_OR_WRONG:
        for _ in range(CONDITIONS):
            level = 0.6 + 0.2 * rng.normal(size=patients)
            arms = [
                level
                + (of_seed * rng.normal(size=(seeds, 1)) + of_patient * rng.normal(size=patients))
                / np.sqrt(2)
                for _ in range(2)
            ]
            yield tuple((rng.random((seeds, patients)) < arm).astype(float) for arm in arms)
        return
    unit, conditions = SHAPES[scenario.shape], 1 if scenario.shared else CONDITIONS
    x = scenario.difference + of_seed * unit(rng, (conditions, seeds, 1))
    x = x + of_patient * unit(rng, (conditions, 1, patients))
    x = x + rest * unit(rng, (CONDITIONS, seeds, patients))
    yield from ((d, np.zeros_like(d)) for d in x)


def judge(family: Sequence[tuple], seeds: int) -> list[str]:
    """Verdicts of a family from its first seeds, with the flips and resamples of a report."""
    patients = np.arange(family[0][0].shape[1])
    tests = [paired_test(a[:seeds], b[:seeds], patients, seed=0) for a, b in family]
    return [verdict for _, verdict in verdicts(tests)]


def rate(scenario: Scenario, seeds: int, patients: int, families: int, rng) -> float:
    """Share of families with a verdict; of a true difference the share of comparisons seen."""
    found = []
    for _ in range(families):
        of_family = judge([*draw(scenario, seeds, patients, rng)], seeds)
        if scenario.difference:
            found += [verdict == "better" for verdict in of_family]
        else:
            found.append(set(of_family) != {"not shown"})
    return float(np.mean(found))


def rate_of_looking(scenario: Scenario, patients: int, families: int, rng) -> float:
    """Share of families with a verdict for the first 2, 3, … or 8 seeds."""
    found = []
    for _ in range(families):
        family = [*draw(scenario, 8, patients, rng)]
        found.append(any(set(judge(family, s)) != {"not shown"} for s in range(2, 9)))
    return float(np.mean(found))


def name(scenario: Scenario) -> str:
    return ", ".join(f"{sd:g}" for sd in scenario.spreads)


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--families", type=int, default=1000, metavar="N", help="of most cells")
    parser.add_argument("--seed", type=int, default=0, metavar="N")


def run(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)

    def rates(scenario: Scenario) -> list[str]:
        families = max(1, round(options.families * scenario.weight))
        found = [rate(scenario, *size, families, rng) for size in GRID]
        return [str(families), *(f"{100 * share:.1f}" for share in found)]

    sizes = [f"{seeds}, {patients}" for seeds, patients in GRID]
    print("Families with a false verdict, in per cent, by seeds and patients\n")
    row("σ_S, σ_P, σ_R", "distribution", "conditions", "families", *sizes)
    row(*["---"] * 4, *["---:"] * len(GRID))
    for s in SCENARIOS:
        row(name(s), s.shape, "share u, v" if s.shared else "own", *rates(s))
    print("\nThe same where one looks after every seed from 2 to 8, 50 patients\n")
    for spreads in SPREADS[:2]:
        share = rate_of_looking(s := Scenario(spreads), 50, options.families, rng)
        print(f"- {name(s)}: {100 * share:.1f}", flush=True)
    print("\nComparisons shown better, in per cent, δ in all conditions\n")
    row("σ_S, σ_P, σ_R", "δ", "families", *sizes)
    row("---", *["---:"] * (2 + len(GRID)))
    for spreads, difference in itertools.product(SPREADS[:4], DIFFERENCES):
        s = replace(Scenario(spreads), difference=difference, weight=0.25)
        row(name(s), difference, *rates(s))
    print("\nStandard errors that a difference needs: alone, and as the clearest of four\n")
    row("seeds", *SEEDS)
    row(*["---:"] * (1 + len(SEEDS)))
    for what, level in (("alone", 0.05), ("of four", 0.05 / CONDITIONS)):
        row(what, *(f"{stats.t.isf(level / 2, seeds - 1):.1f}" for seeds in SEEDS))
