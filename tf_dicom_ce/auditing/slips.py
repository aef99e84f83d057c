"""A model of how wrong values arise, which gives the probability that a value is wrong.

A study truly shows a group g. Someone enters e for it. The value v_f in its file f usually is e.
Both may be mistakes (slips):

    p(g)       ∝ exp(s_g / T), by the pictures alone (`pictures`)
    P(e | g)   = 1 − ε_e  where e = g,    else ε_e / (K − 1)
    P(v_f | e) = 1 − ε_v  where v_f = e,  else ε_v / (K − 1)

    P(g | pictures, v) ∝ p(g) Σ_e P(e | g) Π_f P(v_f | e)

So a file that contradicts the others of its study is a slip of that file. A study whose files agree
is one entry, which only the pictures can contradict. T, ε_e and ε_v maximise the likelihood of the
values of the whole archive, with the prior p(ε) ∝ ε. The prior counts one more slip than was seen;
without it, a large T could explain away a single slip.

The two kinds differ in meaning. A slip of a file is a mistake. An entry that the pictures
contradict may still be right: for example, a biopsy of the liver sometimes shows lung.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import log_softmax, xlogy

#: Bounds of log T, ε_e and ε_v.
_BOUNDS = ((-3.0, 3.0), (1e-4, 0.5), (1e-4, 0.5))
_UNSEEN = (1e-9, 1e-9)  # ε_v if no unit has several files
RESAMPLES = 100


@dataclasses.dataclass(frozen=True)
class Slips:
    """How far pictures and values can be trusted."""

    temperature: float  # T, above 0
    entries: float = 0.03  # ε_e, 0 to 1
    values: float = 0.03  # ε_v, 0 to 1

    def joint(self, scores: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(g, v, e = g | pictures) and P(g, v, e ≠ g | pictures) of every unit, float [U, K] each.

        Both lack a common factor of the unit.

        Args:
            scores: s, float [U, K].
            counts: Number of files of a unit in which each group stands, [U, K].
        """
        others = scores.shape[1] - 1
        of_entry = self._of_entry(counts)
        p = np.exp(log_softmax(scores / self.temperature, axis=1))
        elsewhere = of_entry.sum(axis=1, keepdims=True) - of_entry
        return p * (1 - self.entries) * of_entry, p * self.entries / others * elsewhere

    def posterior(self, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """P(g | pictures, v) of every unit, float [U, K]; see `joint`."""
        joint = np.add(*self.joint(scores, counts))
        return joint / joint.sum(axis=1, keepdims=True)

    def draw(
        self, scores: np.ndarray, counts: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws g and e of every unit from P(g, e | pictures, v), int [U] each."""
        kept, slipped = self.joint(scores, counts)
        g, at = _draw(kept + slipped, rng), np.arange(len(counts))
        elsewhere = self._of_entry(counts)
        elsewhere[at, g] = 0
        right = rng.uniform(size=len(g)) * (kept + slipped)[at, g] < kept[at, g]
        return g, np.where(right, g, _draw(elsewhere, rng))

    def _of_entry(self, counts: np.ndarray) -> np.ndarray:
        """Π_f P(v_f | e) by e, relative to its value for the commonest group; float [U, K]."""
        odds = (1 - self.values) * (counts.shape[1] - 1) / self.values
        return odds ** (counts - counts.max(axis=1, keepdims=True))


#: Starts with flat and with sharp pictures: the likelihood may have a peak at each.
STARTS = (Slips(1.0), Slips(0.3), Slips(0.1))


def _draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a column of every row, with probabilities proportional to the weights."""
    share = weights.cumsum(axis=1)
    return (rng.uniform(size=(len(share), 1)) * share[:, -1:] > share[:, :-1]).sum(axis=1)


def fit_slips(
    scores: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray | None = None,
    starts: Sequence[Slips] = STARTS,
) -> tuple[Slips, float]:
    """Estimates T, ε_e and ε_v by maximum likelihood; returns them and log P(v | pictures).

    If no unit has two files with a value, ε_v cannot be estimated, and all slips are entries.

    Args:
        scores: s, float [U, K].
        counts: Number of files of a unit in which each group stands, [U, K].
        weights: Weight of each unit, [U]; None for 1.
        starts: Initial values; the likeliest result wins.
    """
    files, most = counts.sum(axis=1), counts.max(axis=1)
    weights = np.ones(len(counts)) if weights is None else weights
    entered = weights * (files > 0)
    several = (files > 1).any()
    bounds = [*_BOUNDS[:2], _BOUNDS[2] if several else _UNSEEN]
    others = counts.shape[1] - 1

    def loss(parameters: np.ndarray) -> float:
        log_t, entries, values = parameters
        slips = Slips(np.exp(log_t), entries, values)
        of_values = xlogy(most, 1 - values) + xlogy(files - most, values / others)
        likelihood = np.log(np.add(*slips.joint(scores, counts)).sum(axis=1)) + of_values
        prior = np.log(entries) + several * np.log(values)
        return -((entered * likelihood).sum() + prior) / entered.sum()

    ends = []
    for start in starts:
        begin = (np.log(start.temperature), start.entries, start.values)
        begin = [np.clip(x, *bound) for x, bound in zip(begin, bounds, strict=True)]
        ends.append(minimize(loss, begin, bounds=bounds, method="L-BFGS-B"))
    best = min(ends, key=lambda end: end.fun)
    log_t, entries, values = best.x
    return Slips(float(np.exp(log_t)), float(entries), float(values)), -best.fun


@dataclasses.dataclass(frozen=True)
class Estimate:
    """How many values of each group, and of all, are wrong; with a 95 % interval."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def estimate_wrong(
    scores: np.ndarray, counts: np.ndarray, patients: np.ndarray, slips: Slips, seed: int
) -> tuple[Estimate, Estimate]:
    """Counts values that contradict their study (v ≠ e), or a study's pictures (v = e ≠ g).

    g and e are drawn from their posterior, with T and ε fitted to resampled patients.

    Args:
        scores: s, float [U, K].
        counts: Number of files of a unit in which each group stands, [U, K].
        patients: Number of each unit's patient, int [U].
        slips: The slips of the archive.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    people, at = patients.max() + 1, np.arange(len(counts))
    drawn = []
    for _ in track(range(RESAMPLES), "estimating", console=Console(stderr=True), transient=True):
        times = rng.multinomial(people, np.full(people, 1 / people))
        own, _ = fit_slips(scores, counts, times[patients], [slips])
        g, e = own.draw(scores, counts, rng)
        agreeing = np.zeros_like(counts)
        agreeing[at, e] = counts[at, e]
        contradicted = agreeing * (g != e)[:, np.newaxis]
        drawn.append([_with_total(counts - agreeing), _with_total(contradicted)])
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    columns = zip(np.mean(drawn, axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
    return tuple(Estimate(*map(tuple, column)) for column in columns)


def _with_total(of_units: np.ndarray) -> np.ndarray:
    of_groups = of_units.sum(axis=0)
    return np.append(of_groups, of_groups.sum())
