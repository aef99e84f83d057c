"""A run that is stopped anywhere and gone on with ends as if it had never been stopped."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.errors import StoppedError, UserError
from tf_dicom_ce.training.checkpoints import Checkpoints
from tf_dicom_ce.training.loop import Data, Schedule, state_variables, train
from tf_dicom_ce.training.monitoring import BestWeights, History

SCHEDULE = Schedule(epochs=3, steps_per_epoch=4, steps=3)
X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 2, (16, 1)).astype(np.float32)


def build(rate=1e-2):
    """Dropout, BatchNorm, Adam: seeds, statistics and slots."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.test_on_batch(X[:4], Y[:4])
    return model


class StopAt(keras.callbacks.Callback):
    """What a killed process does at some step, but in this one."""

    def __init__(self, step, action):
        super().__init__()
        self._left, self._action = step, action

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            self._action()


class Killed(BaseException):
    pass


def kill():
    raise Killed


def batches(first, parts, spoilt=None):
    def rows(step):
        return np.arange(4) + 4 * (step % 4)

    def generate():
        for step in range(first, 10**6):
            x = X[rows(step)]
            yield (x * np.nan if step == spoilt else x), Y[rows(step)]

    signature = (tf.TensorSpec((4, 6)), tf.TensorSpec((4, 1)))
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def run(folder, *more, training=batches, rate=1e-2):
    model = build(rate)
    best = BestWeights("val_loss")
    validation = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    train(
        model,
        Data(training, validation, lambda step: [100 + step, 200 + step]),
        SCHEDULE,
        best,
        [History(folder / "history.csv"), *more],
        Checkpoints(folder / "checkpoints"),
        tf.distribute.get_strategy(),
    )
    return model, best


def outcome(folder, model, best):
    variables = [v.numpy() for v in state_variables(model)]
    return variables, best.state, best.weights, (folder / "history.csv").read_text()


def assert_same(a, b):
    assert a[1] == b[1]
    assert a[3] == b[3]
    for x, y in zip([*a[0], *a[2]], [*b[0], *b[2]], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return outcome(folder, *run(folder))


def test_the_state_is_complete():
    model = build()
    names = " ".join(v.path for v in state_variables(model))
    for part in ("kernel", "moving_mean", "seed_generator", "iteration", "momentum", "total"):
        assert part in names, names


@pytest.mark.parametrize("step", range(1, 12))
def test_killed_after_any_step(tmp_path, whole, step):
    with pytest.raises(Killed):
        run(tmp_path, StopAt(step, kill))
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


def test_killed_again_and_again(tmp_path, whole):
    for step in (2, 1, 4, 3, 1, 2):
        with pytest.raises(Killed):
            run(tmp_path, StopAt(step, kill))
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_leaves(tmp_path, whole, number):
    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match=r"after step 5 of 12.*--resume") as stopped:
        run(tmp_path, StopAt(5, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    assert Checkpoints(tmp_path / "checkpoints").latest().step == 5
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


def test_a_finished_run_stays_as_it_is(tmp_path, whole):
    run(tmp_path)
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


def test_the_loop_does_what_fit_does(whole):
    model = build()
    history = model.fit(
        batches(0, None),
        epochs=3,
        steps_per_epoch=4,
        validation_data=tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),
        shuffle=False,
        verbose=0,
    ).history
    np.testing.assert_allclose(
        whole[0][0], model.variables[0].numpy(), rtol=1e-5, atol=1e-7, strict=True
    )
    rows = [line.split(",") for line in whole[3].splitlines()]
    column = rows[0].index("val_loss")
    found = [float(row[column]) for row in rows[1:]]
    np.testing.assert_allclose(found, history["val_loss"], rtol=1e-5)
    column = rows[0].index("loss")
    np.testing.assert_allclose([float(row[column]) for row in rows[1:]], history["loss"], rtol=1e-5)


def test_input_that_is_not_finite_is_named_by_step_and_rows(tmp_path):
    with pytest.raises(UserError, match=r"step 7 \(epoch 2\): the images or tags.*106, 206"):
        run(tmp_path, training=lambda first, parts: batches(first, parts, spoilt=6))
    # What was saved before is sound.
    assert Checkpoints(tmp_path / "checkpoints").latest().step == 6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(UserError, match=r"a loss is not finite.*Lower the learning rates"):
        run(tmp_path, rate=1e30)


def test_a_full_disk_costs_no_work(tmp_path, whole, monkeypatch, capsys):
    save = Checkpoints.save

    def full(self, checkpoint):
        if checkpoint.step < 9:
            raise OSError(28, "No space left on device")
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", full)
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)
    assert "could not be written (No space left on device)" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    other = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(1)])
    other.compile("adam", "mse")
    with pytest.raises(UserError, match="of another model"):
        train(
            other,
            Data(batches, None, None),
            SCHEDULE,
            BestWeights("val_loss"),
            [],
            Checkpoints(tmp_path / "checkpoints"),
            tf.distribute.get_strategy(),
        )
