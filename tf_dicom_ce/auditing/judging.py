"""Combines pictures and values: probabilities of each file's group, and of a wrong value."""

import dataclasses
import functools

import numpy as np

from tf_dicom_ce.auditing.pictures import scores_by_penalty
from tf_dicom_ce.auditing.slips import Estimate, Slips, estimate_wrong, fit_slips


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The judgement of one tag for n files, in U units that are judged together, and K groups."""

    groups: np.ndarray  # as entered, int [n]; −1: none
    units: np.ndarray  # number of each file's unit, int [n]
    patients: np.ndarray  # number of each file's patient, int [n]
    counts: np.ndarray  # files of a unit with each group, int [U, K]
    scores: np.ndarray  # s, float [U, K]
    slips: Slips

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """P(g | pictures, v) of every file, float [n, K]."""
        return self.slips.posterior(self.scores, self.counts)[self.units]

    @functools.cached_property
    def wrong(self) -> np.ndarray:
        """Probability that each file's value is wrong, float [n]; NaN without a value."""
        own = self.truth[np.arange(len(self.groups)), self.groups]
        return np.where(self.groups >= 0, 1 - own, np.nan)

    def estimate_wrong(self, seed: int) -> tuple[Estimate, Estimate]:
        """Estimates the numbers of wrong values, see `slips.estimate_wrong`."""
        patients = np.zeros(len(self.counts), int)
        patients[self.units] = self.patients
        return estimate_wrong(self.scores, self.counts, patients, self.slips, seed)


def judge(
    features: np.ndarray, groups: np.ndarray, patients: np.ndarray, units: np.ndarray, seed: int
) -> Judgement:
    """Judges one tag with the penalty that makes the values likeliest.

    The arguments are those of `pictures.scores_by_penalty`.
    """
    known = groups >= 0
    counts = np.zeros((units.max() + 1, groups.max() + 1), int)
    np.add.at(counts, (units[known], groups[known]), 1)
    tried = scores_by_penalty(features, groups, patients, units, seed)
    fits = [(*fit_slips(scores, counts), scores) for scores in tried]
    slips, _, scores = max(fits, key=lambda fit: fit[1])
    return Judgement(groups, units, patients, counts, scores, slips)
