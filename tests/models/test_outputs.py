import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.metrics import rank_inconsistency
from tf_dicom_ce.models.heads import ordinal_codes, ordinal_outputs, segmentation_outputs


def test_the_five_codes_of_the_appendix():
    np.testing.assert_array_equal(
        ordinal_codes(tf.range(5), 5),
        [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
    )


def test_every_class_is_decoded_from_its_code():
    logits = 10.0 * ordinal_codes(tf.range(5), 5) - 5.0
    answers = ordinal_outputs(logits)
    np.testing.assert_array_equal(answers["class_id"], range(5))
    np.testing.assert_array_equal(np.argmax(answers["probabilities"], axis=-1), range(5))
    np.testing.assert_allclose(tf.reduce_sum(answers["probabilities"], -1), 1, rtol=1e-6)


def test_probabilities_by_hand():
    # Passing with ¾, ½ and ½ (the last says ¾, which the one below it does not allow).
    z = tf.constant([[np.log(3.0), 0.0, np.log(3.0)]], tf.float32)
    np.testing.assert_allclose(
        ordinal_outputs(z)["probabilities"], [[0.25, 0.25, 0.0, 0.5]], atol=1e-6
    )


def test_rank_inconsistency_by_hand():
    logits = [[1, 1, -1], [1, -1, 1], [-1, -1, -1], [-1, 1, 1]]
    assert rank_inconsistency(np.array(logits)) == pytest.approx(0.5)


def test_mask_is_the_likeliest_class():
    logits = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 5, 3)), tf.float32)
    answers = segmentation_outputs(logits)
    assert answers["mask"].dtype == tf.uint8
    np.testing.assert_array_equal(answers["mask"], np.argmax(logits, axis=-1))
