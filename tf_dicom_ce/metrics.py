"""Measures on a test set, with the paper's bootstrap and intervals clustered by patient."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_BINS = 15

Measure = Callable[[np.ndarray], dict[str, float]]


def classification_measures(
    labels: np.ndarray, ids: np.ndarray, probabilities: np.ndarray, ordinal: bool
) -> dict[str, float]:
    """Accuracy, kappa, AUROC, recall per class; for ordered classes also the mean absolute error.

    And the `calibration_error`, see `expected_calibration_error`.

        kappa = 1 − Σ w_kl n_kl / Σ w_kl n_k. n_.l / n
        AUROC_k = (r_k − (n_k + 1) / 2) / (n − n_k)

    Labels and predicted ids are int [N], probabilities float [N, K]. n_kl counts labels k that were
    predicted as l. w is 1 off the diagonal, or (k − l)² for ordered classes (`ordinal`). r_k is the
    mean rank of p_k over the images of class k (Mann-Whitney), n_k their number. `auroc` is the
    mean over the classes. A measure is NaN where the labels leave it undefined: the recall of a
    class that does not occur; kappa and `auroc` if all labels are equal.
    """
    from scipy.stats import rankdata  # SciPy takes its time

    classes = np.arange(probabilities.shape[1])
    found = np.zeros((len(classes), len(classes)))
    np.add.at(found, (labels, ids), 1)
    count = found.sum(axis=1)
    chance = np.outer(count, found.sum(axis=0)) / len(labels)
    apart = np.abs(np.subtract.outer(classes, classes))
    weights = apart**2 if ordinal else apart > 0
    both = classes[(count > 0) & (count < len(labels))]
    ranks = rankdata(probabilities[:, both], axis=0)
    sums = np.sum(ranks, axis=0, where=labels[:, np.newaxis] == both)
    aurocs = (sums / count[both] - (count[both] + 1) / 2) / (len(labels) - count[both])
    kappa = 1 - (weights * found).sum() / (weights * chance).sum() if len(both) else np.nan
    error = {"mean_absolute_error": float(np.abs(labels - ids).mean())} if ordinal else {}
    recalls = np.divide(found.diagonal(), count, where=count > 0, out=np.full(len(count), np.nan))
    return {
        "accuracy": float((labels == ids).mean()),
        "kappa": float(kappa),
        **error,
        "auroc": float(aurocs.mean()) if len(both) else np.nan,
        "calibration_error": expected_calibration_error(
            labels == ids, probabilities[np.arange(len(ids)), ids]
        ),
        **{f"recall_{k}": float(recall) for k, recall in enumerate(recalls)},
    }


def expected_calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """Mean over images of |share of right ones − mean confidence| of their bin (Guo et al., 2017).

    Of 15 bins of equal width; `right` is bool [N], `confidence`, the probability of the class that
    was found, float [N] in 0…1.
    """
    bins = np.minimum((np.asarray(confidence) * _BINS).astype(int), _BINS - 1)
    apart = np.bincount(bins, right - np.asarray(confidence, float), minlength=_BINS)
    return float(np.abs(apart).sum() / len(bins))


def rank_inconsistency(logits: np.ndarray) -> float:
    """Share of examples, logits [N, K − 1], that pass a threshold above one they do not pass."""
    passed = np.asarray(logits) > 0
    return float((passed[:, 1:] > passed[:, :-1]).any(axis=-1).mean())


def mask_measures(truth: np.ndarray, prediction: np.ndarray, tolerance: float) -> dict[str, float]:
    """Dice, 95 % Hausdorff distance and surface Dice of a class in an image, or a false positive.

    Whether a measure is defined depends on the truth A alone, never on the prediction B, so every
    model has its mean over the same images. A and B are bool [H, W]. `tolerance` is that of the
    surface Dice, in pixels. Distances go from the points of one outline to the nearest point of the
    other, weighted by the length of outline around each point (Nikolov et al., JMIR 2021).

    Returns:
        If A has the class: `dice` 2 |A ∩ B| / (|A| + |B|), 0 to 1; `hausdorff_95` in pixels;
        `surface_dice`, 0 to 1. If B misses the class, these are 0, the image's diagonal
        √(H² + W²), and 0. If A lacks the class: `false_positive`, 1 if B has a pixel of it, else 0;
        its mean over images is the false positive rate. Undefined measures are NaN.
    """
    nothing = dict.fromkeys(("dice", "hausdorff_95", "surface_dice", "false_positive"), np.nan)
    if not truth.any():
        return nothing | {"false_positive": float(prediction.any())}
    if not prediction.any():
        missed = {"dice": 0.0, "hausdorff_95": float(np.hypot(*truth.shape)), "surface_dice": 0.0}
        return nothing | missed
    outlines = _border(truth), _border(prediction)
    ways = [_distances(*outlines), _distances(*reversed(outlines))]
    near = sum(lengths[distances <= tolerance].sum() for distances, lengths in ways)
    return nothing | {
        "dice": dice(truth, prediction),
        "hausdorff_95": max(_percentile_95(*way) for way in ways),
        "surface_dice": float(near / sum(lengths.sum() for _, lengths in ways)),
    }


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """2 |A ∩ B| / (|A| + |B|) of bool arrays; A must not be empty."""
    return float(2 * (truth & prediction).sum() / (truth.sum() + prediction.sum()))


def _border(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of pixels on the outline [n, 2], and its length at each corner (marching squares).

    The outline cuts off one of the four pixels around a corner (length √½) or halves them (1). If
    only two diagonal pixels are inside, two lines cut them off (√2).
    """
    squares = sliding_window_view(np.pad(mask, 1), (2, 2))
    inside = squares.sum(axis=(2, 3))
    crossed = (inside == 2) & (squares[..., 0, 0] == squares[..., 1, 1])
    lengths = np.where(crossed, np.sqrt(2), np.array([0, np.sqrt(0.5), 1, np.sqrt(0.5), 0])[inside])
    return np.argwhere(lengths), lengths[lengths > 0]


def _distances(outline: tuple, other: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distances from the points of an outline to the other outline, with their lengths."""
    from scipy.spatial import KDTree  # SciPy takes its time

    (points, lengths), (others, _) = outline, other
    distances, _ = KDTree(others).query(points)
    order = np.lexsort((lengths, distances))
    return distances[order], lengths[order]


def _percentile_95(distances: np.ndarray, lengths: np.ndarray) -> float:
    """The distance that 95 % of the outline's length do not exceed."""
    reached = np.cumsum(lengths) / lengths.sum()
    return float(distances[min(np.searchsorted(reached, 0.95), len(distances) - 1)])


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean m of n values with its 95 % interval, m ± t s / √n, t Student's of n − 1 degrees."""
    from scipy.stats import sem, t  # SciPy takes its time

    mean, half = np.mean(values), t.ppf(0.975, len(values) - 1) * sem(values)
    return float(mean), float(mean - half), float(mean + half)


def bootstrap(measure: Measure, clusters: np.ndarray, repeats: int, seed: int) -> dict:
    """All measures on `repeats` resamples of whole patients, float [repeats] by name.

    Args:
        measure: Function from positions (int array, with repetition) to numbers by name.
        clusters: Patient of each position, [N].
        repeats: Ten in the paper (Table 2), more for an interval.
        seed: Seed of the resampling.
    """
    names, patients = np.unique(clusters, return_inverse=True)
    positions = [np.flatnonzero(patients == k) for k in range(len(names))]
    draws = np.random.default_rng(seed).integers(0, len(names), (repeats, len(names)))
    results = [measure(np.concatenate([positions[k] for k in draw])) for draw in draws]
    return {name: np.array([result[name] for result in results]) for name in results[0]}


def summarise(measure: Measure, clusters: np.ndarray, seed: int) -> dict[str, dict]:
    """Every measure on all images, its ten-bootstrap mean and sd, and its 95 % interval.

    The interval is the 2.5 and 97.5 percentile of 1,000 resamples of whole patients. Resamples
    without any image that defines a measure (NaN) are left out. The truth decides which images
    these are, so the resamples are the same for every model. A measure that is never defined is
    None. If it rests on a single patient, it has no spread and no interval. The arguments are those
    of `bootstrap`.
    """
    values = measure(np.arange(len(clusters)))
    ten = bootstrap(measure, clusters, 10, seed)
    thousand = bootstrap(measure, clusters, 1000, seed + 1)
    return {
        name: {
            "value": None if np.isnan(value) else float(value),
            "bootstrap_mean": _defined(ten[name], np.mean),
            "bootstrap_sd": _defined(ten[name], lambda v: np.std(v, ddof=1)),
            "interval_95": [
                _defined(thousand[name], lambda v, q=q: np.percentile(v, q)) for q in (2.5, 97.5)
            ],
        }
        for name, value in values.items()
    }


def _defined(values: np.ndarray, statistic: Callable) -> float | None:
    defined = values[~np.isnan(values)]
    # The same in all resamples: the measure rests on one patient.
    rests_on_one = len(defined) < len(values) and len(set(defined)) < 2
    return None if len(defined) < 2 or rests_on_one else float(statistic(defined))
