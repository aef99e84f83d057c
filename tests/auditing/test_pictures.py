"""What pictures tell: by other patients' files alone, averaged over a study."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tf_dicom_ce.auditing import pictures


@pytest.fixture
def files():
    """Features, groups as entered (a fifth unknown), patients and studies of 60 files."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 3)
    truth = patients % 3
    features = rng.normal(size=(60, 5))
    features[:, 0] += truth
    groups = np.where(np.arange(60) % 5 == 4, -1, truth)
    return features, groups, patients, patients.copy()


def test_a_unit_has_the_mean_over_its_files(files):
    features, groups, patients, units = files
    each = list(pictures.scores_by_penalty(features, groups, patients, np.arange(60), 0))
    together = list(pictures.scores_by_penalty(features, groups, patients, units, 0))
    for one, all_of in zip(each, together, strict=True):
        np.testing.assert_allclose(all_of, one.reshape(20, 3, 3).mean(axis=1))


def test_scores_are_those_of_a_logistic_regression_on_other_patients(files):
    features, groups, patients, _ = files
    first = next(pictures.scores_by_penalty(features, groups, patients, np.arange(60), 0))
    for train, test in pictures._folds(groups, patients, 0):
        assert not set(patients[train]) & set(patients[test])
        assert (groups[train] >= 0).all()
        scaler = StandardScaler().fit(features[train])
        model = LogisticRegression(C=1 / (pictures.PENALTIES[0] * len(train)), max_iter=1000)
        model.fit(scaler.transform(features[train]), groups[train])
        expected = np.log(model.predict_proba(scaler.transform(features[test])))
        np.testing.assert_allclose(first[test], expected, atol=1e-6)


def test_two_groups_have_two_columns(files):
    features, groups, patients, _ = files
    groups = np.where(groups == 2, 1, groups)
    for scores in pictures.scores_by_penalty(features, groups, patients, np.arange(60), 0):
        assert scores.shape == (60, 2)
        np.testing.assert_allclose(log_softmax(scores, axis=1), scores, atol=1e-9)
