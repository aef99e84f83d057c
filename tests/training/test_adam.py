"""The fused Adam against the formula in float64, and against Keras' optimizer."""

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.training.adam import FusedAdam


def test_three_steps_by_the_formula():
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=5), rng.normal(size=(3, 5))
    variable = keras.Variable(theta.astype(np.float32))
    optimizer = FusedAdam(0.1)
    optimizer.build([variable])
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        optimizer.apply([tf.constant(g, tf.float32)], [variable])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        alpha = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        theta = theta - alpha * m / (np.sqrt(v) + 1e-7)
        np.testing.assert_allclose(variable, theta, rtol=1e-5)
    assert int(optimizer.iterations) == 3


def in_graph(optimizer, variables):
    @tf.function(autograph=False)
    def step():
        optimizer.apply([tf.sin(v.value) for v in variables], variables)

    return step


def test_same_slots_and_steps_as_keras_adam_in_a_graph():
    values = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    found = []
    for kind in (FusedAdam, keras.optimizers.Adam):
        variables = [keras.Variable(values), keras.Variable(values[0])]
        optimizer = kind(0.01)
        optimizer.build(variables)

        step = in_graph(optimizer, variables)

        for _ in range(4):
            step()
        optimizer.learning_rate = 0.001  # as a user's callback may
        step()
        found.append([*variables, *optimizer.variables])
    assert [v.shape for v in found[0]] == [v.shape for v in found[1]]
    for ours, stock in zip(*found, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=2e-6, atol=1e-6)
