"""Predicts a tag from pictures, by models that saw no picture of the same patient."""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

FOLDS = 5
#: λ of the penalty λ/2 |W|², added to the mean loss.
PENALTIES = (0.1, 0.3, 1.0, 3.0)


def scores_by_penalty(
    features: np.ndarray, groups: np.ndarray, patients: np.ndarray, units: np.ndarray, seed: int
) -> Iterator[np.ndarray]:
    """The scores s_g of every unit, the files that are judged together; float [U, K] by penalty.

    A logistic regression on other patients' files gives log p(g | x) of a file. s_g is the average
    over a unit's files, not the sum: frames of a study are similar, so more frames add no evidence.

    Args:
        features: Features of every file, float [n, F].
        groups: Group of each file as entered, 0 to K − 1, integer [n]; −1 without a group. Each
            group has files of at least `FOLDS` patients.
        patients: Number of each file's patient, integer [n].
        units: Number of each file's unit, 0 to U − 1, integer [n].
        seed: Seed of the folds.
    """
    base = np.log(np.bincount(groups[groups >= 0]) / (groups >= 0).sum())
    for penalty in track(
        PENALTIES, "judging by the pictures", console=Console(stderr=True), transient=True
    ):
        of_files = np.tile(base, (len(groups), 1))  # kept if a fold lacks a group
        for train, test in _folds(groups, patients, seed):
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=1 / (penalty * len(train)), max_iter=1000)
            )
            with threadpool_limits(1):  # several BLAS threads would wait for each other
                model.fit(features[train], groups[train])
            seen = np.unique(groups[train])
            of_files[np.ix_(test, seen)] = log_softmax(_logits(model, features[test]), axis=1)
        of_units = np.stack([np.bincount(units, column) for column in of_files.T], axis=1)
        yield of_units / np.bincount(units)[:, np.newaxis]


def _folds(
    groups: np.ndarray, patients: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields files with a group to learn from, and files of other patients to judge."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(groups, np.maximum(groups, 0), patients):
        yield train[groups[train] >= 0], test


def _logits(model, features: np.ndarray) -> np.ndarray:
    logits = model.decision_function(features)
    return logits if logits.ndim == 2 else np.stack([0 * logits, logits], axis=1)
