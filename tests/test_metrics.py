"""Measures against scikit-learn, SciPy and plain NumPy."""

import functools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn import metrics as reference

from tf_dicom_ce.metrics import (
    bootstrap,
    classification_measures,
    expected_calibration_error,
    mask_measures,
    summarise,
)

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 200)
IDS = np.where(RNG.uniform(size=200) < 0.6, LABELS, RNG.integers(0, 4, 200))
PROBABILITIES = RNG.dirichlet(np.ones(4), 200) + 0.5 * np.eye(4)[LABELS]


def test_classification_against_plain_numpy():
    found = classification_measures(LABELS, IDS, PROBABILITIES, ordinal=True)
    assert found["accuracy"] == (LABELS == IDS).mean()
    assert found["mean_absolute_error"] == np.abs(LABELS - IDS).mean()
    counts = np.zeros((4, 4))
    np.add.at(counts, (LABELS, IDS), 1)
    weights = (np.arange(4)[:, None] - np.arange(4)) ** 2
    chance = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    assert found["kappa"] == pytest.approx(1 - (weights * counts).sum() / (weights * chance).sum())
    for k in range(4):
        assert found[f"recall_{k}"] == pytest.approx(counts[k, k] / counts[k].sum())
    # AUROC as the share of pairs in which the positive has the higher score.
    pairs = [
        (PROBABILITIES[k == LABELS, k][:, None] > PROBABILITIES[k != LABELS, k]).mean()
        for k in range(4)
    ]
    assert found["auroc"] == pytest.approx(np.mean(pairs))
    normalised = PROBABILITIES / PROBABILITIES.sum(1, keepdims=True)
    assert classification_measures(LABELS, IDS, normalised, True)["auroc"] == pytest.approx(
        reference.roc_auc_score(LABELS, normalised, multi_class="ovr")
    )


def test_calibration_error():
    # Bins of 1/15: 0.5, 0.52 and 0.7, 0.71; 1.0 is in the last one.
    confidence = np.array([0.5, 0.52, 0.7, 0.71, 1.0])
    right = np.array([True, False, True, True, False])
    expected = (abs(1 - 1.02) + abs(2 - 1.41) + abs(0 - 1.0)) / 5
    assert expected_calibration_error(right, confidence) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    p = rng.uniform(size=100_000)
    assert expected_calibration_error(rng.uniform(size=len(p)) < p, p) < 0.01
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classification_measures(np.array([0, 1]), np.array([0, 0]), probabilities, False)
    assert found["calibration_error"] == pytest.approx((0.1 + 0.8) / 2)


@pytest.mark.parametrize("ordinal", [True, False])
def test_classification_as_scikit_learn(ordinal):
    """Of few and many images, with and without equal probabilities and classes that are absent."""
    rng = np.random.default_rng(2)
    for count in (2, 3, 5, 20, 60):
        labels, ids = np.append([0, 1], rng.integers(0, 3, count)), rng.integers(0, 3, count + 2)
        fine = rng.dirichlet(np.ones(3), count + 2).astype(np.float32)
        for probabilities in (fine, fine.round(1)):
            found = classification_measures(labels, ids, probabilities, ordinal)
            weights, classes = ("quadratic" if ordinal else None), [0, 1, 2]
            present = np.unique(labels)
            of_class = {"labels": classes, "average": None, "zero_division": np.nan}
            expected = {
                "accuracy": reference.accuracy_score(labels, ids),
                "kappa": reference.cohen_kappa_score(labels, ids, labels=classes, weights=weights),
                "auroc": np.mean(
                    [reference.roc_auc_score(labels == k, probabilities[:, k]) for k in present]
                ),
            }
            recalls = reference.recall_score(labels, ids, **of_class)
            expected |= {f"recall_{k}": recall for k, recall in enumerate(recalls)}
            chosen = {name: found[name] for name in expected}
            assert chosen == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_nominal_classes_have_no_distance():
    found = classification_measures(LABELS, IDS, PROBABILITIES, ordinal=False)
    assert "mean_absolute_error" not in found
    counts = np.zeros((4, 4))
    np.add.at(counts, (LABELS, IDS), 1)
    chance = (counts.sum(0) * counts.sum(1)).sum() / counts.sum()
    assert found["kappa"] == pytest.approx((np.trace(counts) - chance) / (200 - chance))


def test_a_class_that_does_not_occur_has_no_recall():
    found = classification_measures(
        np.array([0, 0, 2]), np.array([0, 2, 2]), np.eye(3)[[0, 2, 2]], True
    )
    assert np.isnan(found["recall_1"])
    assert found["recall_0"] == 0.5


def border(mask):
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def test_masks_against_scipy():
    y, x = np.mgrid[:80, :100]
    truth = np.hypot(y - 40, x - 50) < 25
    prediction = np.hypot((y - 43) / 1.1, x - 46) < 24
    found = mask_measures(truth, prediction, tolerance=3.0)
    dice = 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())
    assert found["dice"] == dice
    assert found["dice"] == pytest.approx(reference.f1_score(truth.ravel(), prediction.ravel()))
    distances = cdist(border(truth), border(prediction))
    to, back = distances.min(1), distances.min(0)
    # Ours weighs points of the outline by their length and sets them between the pixels.
    hausdorff = max(np.percentile(to, 95), np.percentile(back, 95))
    assert found["hausdorff_95"] == pytest.approx(hausdorff, abs=0.5)
    surface = ((to <= 3).sum() + (back <= 3).sum()) / (len(to) + len(back))
    assert found["surface_dice"] == pytest.approx(surface, abs=0.06)


def outline(mask):
    """Points of the outline between four pixels, and its length about each, by hand."""
    points, lengths = [], []
    padded = np.pad(mask, 1).astype(int)
    for i in range(len(padded) - 1):
        for j in range(len(padded[0]) - 1):
            (a, b), (c, d) = padded[i : i + 2, j : j + 2]
            if a + b + c + d in (1, 3):  # from one side's middle to the next side's
                length = np.hypot(0.5, 0.5)
            elif a + b + c + d == 2:  # straight through, or around two corners
                length = 1 if a != d else 2 * np.hypot(0.5, 0.5)
            else:
                continue
            points.append((i, j))
            lengths.append(length)
    return np.array(points), np.array(lengths)


@pytest.mark.parametrize("seed", range(8))
def test_distances_of_outlines_by_hand(seed):
    """Ragged masks with holes that touch the image's sides; every pair of points is measured."""
    rng = np.random.default_rng(seed)
    truth, prediction = ndimage.gaussian_filter(rng.normal(size=(2, 24, 31)), (0, 1, 1)) > 0.1
    found = mask_measures(truth, prediction, tolerance=1.5)
    (points, lengths), (others, their_lengths) = outline(truth), outline(prediction)
    pairs = cdist(points, others)
    farthest, near, total = [], 0, 0
    for distances, weights in ((pairs.min(1), lengths), (pairs.min(0), their_lengths)):
        near += weights[distances <= 1.5].sum()
        total += weights.sum()
        farthest.append(
            min(d for d in distances if weights[distances <= d].sum() >= 0.95 * weights.sum())
        )
    assert found["surface_dice"] == pytest.approx(near / total, rel=1e-12)
    assert found["hausdorff_95"] == pytest.approx(max(farthest), rel=1e-12)


def test_the_truth_alone_decides_what_is_defined():
    """30 × 40 pixels, so the diagonal is 50."""
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    pixel = empty.copy()
    pixel[3, 5] = True
    names = ("dice", "hausdorff_95", "surface_dice", "false_positive")
    for truth, prediction, expected in (
        (full, full, (1, 0, 1, np.nan)),
        (full, empty, (0, 50, 0, np.nan)),  # missed
        (pixel, empty, (0, 50, 0, np.nan)),
        (empty, empty, (np.nan, np.nan, np.nan, 0)),
        (empty, pixel, (np.nan, np.nan, np.nan, 1)),
        (empty, full, (np.nan, np.nan, np.nan, 1)),
    ):
        found = mask_measures(truth, prediction, 1.0)
        assert tuple(found) == names
        np.testing.assert_array_equal(list(found.values()), expected)


def test_two_single_pixels_by_hand():
    """(3, 5) and (6, 9): corner to nearest corner, √(2² + 3²), √(3² + 3²), √(2² + 4²) and 5."""
    truth, prediction = np.zeros((2, 30, 40), bool)
    truth[3, 5] = prediction[6, 9] = True
    found = [mask_measures(truth, prediction, tolerance) for tolerance in (3.5, 4.3, 5.1)]
    assert [one["surface_dice"] for one in found] == [0, 0.5, 1]
    assert {one["dice"] for one in found} == {0}
    assert found[0]["hausdorff_95"] == 5  # far less than that of a missed organ, 50


def test_kappa_is_undefined_by_the_labels_alone():
    """Of labels that are all alike, kappa would be 0 / 0 or 0, depending on the predictions."""
    alike = np.zeros(3, int)
    for ids in ([0, 0, 0], [0, 1, 0]):
        found = classification_measures(alike, np.array(ids), np.eye(2)[ids], False)
        assert np.isnan(found["kappa"])
        assert np.isnan(found["auroc"])
    found = classification_measures(np.array([0, 1, 1]), alike, np.eye(2)[alike], False)
    assert found["kappa"] == 0


def test_bootstrap_draws_whole_patients():
    clusters = np.array([3, 3, 3, 7, 7, 9])
    seen = []
    bootstrap(lambda p: seen.append(np.sort(p)) or {"n": len(p)}, clusters, 200, seed=0)
    for positions in seen:
        counts = np.bincount(positions, minlength=6)
        assert counts[0] == counts[1] == counts[2]
        assert counts[3] == counts[4]
        assert counts[0] + counts[3] + counts[5] == 3  # as many patients as there are
    assert len({tuple(positions) for positions in seen}) > 5


def test_interval_of_a_mean_agrees_with_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = summarise(lambda p: {"mean": values[p].mean()}, np.arange(400), seed=0)["mean"]
    error = values.std(ddof=1) / 20
    assert found["value"] == pytest.approx(values.mean())
    low, high = found["interval_95"]
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)
    assert found["bootstrap_sd"] == pytest.approx(error, rel=0.7)


def test_of_one_patient_there_is_no_interval():
    """Patient 0 alone has class 0: its recall is ½, and nothing is known of other patients."""
    labels, ids = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 0, 1])
    patients = np.array([0, 0, 1, 1, 2, 2])

    @functools.cache  # of the thousand resamples of three patients 27 differ
    def recalls(positions):
        k = np.array(positions)
        return classification_measures(labels[k], ids[k], np.eye(2)[ids[k]], ordinal=False)

    found = summarise(lambda k: recalls(tuple(k)), patients, seed=0)
    assert found["recall_0"]["value"] == 0.5
    assert found["recall_0"]["interval_95"] == [None, None]
    assert found["recall_0"]["bootstrap_sd"] is None
    low, high = found["recall_1"]["interval_95"]  # of patients 1 and 2: 1 and ½
    assert (low, high) == (0.5, 1.0)
