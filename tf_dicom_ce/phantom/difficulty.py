"""Measures simple methods on a cohort, as baselines for networks."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.phantom.quality import ceiling
from tf_dicom_ce.whole_files import write_text

_THUMBNAIL = 24, 16
_ORGANS = {1: "liver", 2: "kidney"}


def write_difficulty(cohort: Path) -> str:
    """Measures the baselines on a finished cohort's own splits.

    Returns:
        The table in Markdown, which is also written to `difficulty.md` in the cohort's folder.
    """
    lines = ["| task | baseline | measure | value |", "|---|---|---|---|"]
    for task, name, measure, value in (*_classification(cohort), *_segmentation(cohort)):
        lines.append(f"| {task} | {name} | {measure} | {value:.3f} |")
    text = "\n".join(lines) + "\n"
    write_text(cohort / "difficulty.md", text)
    return text


def _read(cohort: Path, table: str) -> list[dict]:
    with (cohort / table).open(newline="") as file:
        return list(csv.DictReader(file))


def _classification(cohort: Path):
    from sklearn.ensemble import RandomForestClassifier

    rows = _read(cohort, "classification.csv")
    frames = [read_frame(cohort / row["path"]).pixels for row in rows]
    labels = np.array([int(row["label"]) for row in rows])
    test = np.array([row["split"] == "test" for row in rows])
    train = np.array([row["split"] == "train" for row in rows])
    majority = np.bincount(labels[train]).argmax()
    yield "classification", "majority class", "accuracy", float((labels[test] == majority).mean())
    quantiles = np.linspace(0, 1, 11)
    features = {
        "intensity statistics, forest": [
            [*np.quantile(frame, quantiles), frame.mean(), frame.std()] for frame in frames
        ],
        "thumbnail 16×24, forest": [
            np.asarray(Image.fromarray(frame).resize(_THUMBNAIL)).ravel() for frame in frames
        ],
    }
    for name, values in features.items():
        values = np.array(values)
        forest = RandomForestClassifier(500, random_state=0, n_jobs=1)
        forest.fit(values[train], labels[train])
        accuracy = float(forest.score(values[test], labels[test]))
        yield "classification", name, "accuracy", accuracy
    truth = [row for row in _read(cohort, "truth.csv") if row["score"]]
    scores = np.array([float(row["score"]) for row in truth if row["label"] != "0"])
    known = ceiling(np.tile(scores, 100), np.random.default_rng(0))
    share = np.mean([row["label"] == "0" for row in truth])
    yield "classification", "ceiling by rater noise", "accuracy", float(share + (1 - share) * known)


def _segmentation(cohort: Path):
    rows = _read(cohort, "segmentation.csv")
    masks = np.stack([_mask(cohort, row) for row in rows])
    train = np.array([row["split"] == "train" for row in rows])
    test = np.array([row["split"] == "test" for row in rows])
    for label, organ in _ORGANS.items():
        prior = (masks[train] == label).mean(axis=0)
        # The best threshold on the training images, as a user would choose it.
        thresholds = np.linspace(0.1, 0.9, 17)
        best = max(thresholds, key=lambda t: _mean_dice(masks[train] == label, prior > t))
        value = _mean_dice(masks[test] == label, prior > best)
        yield "segmentation", "location prior", f"Dice {organ}", value


def _mask(cohort: Path, row: dict) -> np.ndarray:
    """The mask within the sector's region, as the reader crops the image."""
    region = read_frame(cohort / row["path"]).region
    return np.asarray(Image.open(cohort / row["mask"]))[region.slices]


def _mean_dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean Dice of one prediction [H, W] over the images [N, H, W] that have the organ."""
    truth = truth[truth.any(axis=(1, 2))]
    overlap = (truth & prediction).sum(axis=(1, 2))
    return float((2 * overlap / (truth.sum(axis=(1, 2)) + prediction.sum())).mean())
