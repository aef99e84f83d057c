"""The head on the encoder: logits by NumPy, float32 whatever comes in."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.tag_head import TagHead


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_logits_are_linear_in_the_average(dtype):
    keras.utils.set_random_seed(0)
    head = TagHead(5)
    head.build((None, None, None, 7))
    p5 = tf.cast(np.random.default_rng(0).normal(size=(3, 2, 4, 7)), dtype)
    logits = head(p5)
    kernel, bias = head.get_weights()
    assert (kernel.shape, bias.shape) == ((7, 5), (5,))
    assert logits.dtype == tf.float32
    expected = np.float32(p5).mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
