"""A run that is stopped anywhere and gone on with ends as if it had never been stopped."""

import contextlib
import csv
import dataclasses
import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.errors import StoppedError, UserError
from tf_dicom_ce.models.heads import Dropout
from tf_dicom_ce.training.checkpoints import (
    BestWeights,
    Checkpoint,
    Checkpoints,
    by_path,
    state_variables,
    values_of,
)
from tf_dicom_ce.training.loop import Data, Schedule, train
from tf_dicom_ce.training.progress import History

pytestmark = pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly")  # tf.data

SCHEDULE = Schedule(epochs=3, steps_per_epoch=4, steps=3)
X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 2, (16, 1)).astype(np.float32)


def build(rate=1e-2):
    """Dropout, BatchNorm, Adam: seeds, statistics and slots."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(5, activation="relu", name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            Dropout(0.5, name="dropout"),
            keras.layers.Dense(1, name="logit"),
        ],
        name="net",
    )
    adam = keras.optimizers.Adam(rate, name="adam")
    model.compile(adam, "mse", metrics=["mae"], jit_compile=False)
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


def run(folder, *more, training=batches, rate=1e-2, schedule=SCHEDULE):
    model = build(rate)
    best = BestWeights("val_loss")
    validation = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    train(
        model,
        Data(training, validation, lambda step: [100 + step, 200 + step]),
        schedule,
        best,
        [History(folder / "history.csv"), *more],
        Checkpoints(folder / "checkpoints"),
        tf.distribute.get_strategy(),
    )
    return model, best


def outcome(folder, model, best):
    return (
        values_of(state_variables(model)),
        best.state,
        best.weights,
        (folder / "history.csv").read_text(),
    )


def assert_same(a, b):
    assert a[1] == b[1]
    assert a[3] == b[3]
    for x, y in ((a[0], b[0]), (a[2], b[2])):
        assert x.keys() == y.keys()
        for path in x:
            np.testing.assert_array_equal(x[path], y[path], err_msg=path)


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@contextlib.contextmanager
def untraced():
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def whole(whole_folder):
    with untraced():
        return outcome(whole_folder, *run(whole_folder))


@pytest.fixture
def finished(whole, whole_folder, tmp_path):
    """A copy of the folder of a finished run."""
    return shutil.copytree(whole_folder, tmp_path / "finished")


def test_the_state_is_complete():
    model = build()
    names = " ".join(state_variables(model))
    for part in ("kernel", "moving_mean", "seed_generator", "iteration", "momentum", "total"):
        assert part in names, names


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The folder of a run as a kill leaves it: left[step]."""
    folder, found = tmp_path_factory.mktemp("run"), {}

    def keep():
        found[len(found) + 1] = shutil.copytree(folder, tmp_path_factory.mktemp("left") / "run")

    with untraced():
        run(folder, *(StopAt(step, keep) for step in range(1, 12)))
    return found


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("step", range(1, 12))
def test_killed_after_any_step(left, whole, step):
    assert_same(outcome(left[step], *run(left[step])), whole)


@pytest.mark.usefixtures("eagerly")
def test_killed_again_and_again(tmp_path, whole):
    for step in (2, 4, 3, 1):
        with pytest.raises(Killed):
            run(tmp_path, StopAt(step, kill))
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("stopped", [False, True])
def test_more_epochs_go_on_from_the_end_or_from_before(tmp_path, whole, stopped):
    shorter = dataclasses.replace(SCHEDULE, epochs=2)
    if stopped:
        with pytest.raises(Killed):
            run(tmp_path, StopAt(6, kill), schedule=shorter)
    else:
        run(tmp_path, schedule=shorter)
    assert Checkpoints(tmp_path / "checkpoints").latest().step == (3 if stopped else 8)
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_leaves(tmp_path, whole, number):
    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match=r"after step 5 of 12.*--resume") as stopped:
        run(tmp_path, StopAt(5, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    assert Checkpoints(tmp_path / "checkpoints").latest().step == 5
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)


@pytest.mark.usefixtures("eagerly")
def test_a_finished_run_stays_as_it_is(finished, whole):
    assert_same(outcome(finished, *run(finished)), whole)


def hook(name):
    def tell(self, *arguments, **named):
        numbers = [argument for argument in arguments if isinstance(argument, int)]
        logs = [a for a in (*arguments, *named.values()) if isinstance(a, dict)]
        self.said.append((name, *numbers, dict(*logs)))

    return tell


HOOKS = [
    *("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end"),
    *("on_train_batch_begin", "on_train_batch_end", "on_test_begin", "on_test_end"),
    *("on_test_batch_begin", "on_test_batch_end"),
]
Told = type("Told", (keras.callbacks.Callback,), {name: hook(name) for name in HOOKS})


def told(stop=None):
    """A callback that writes down all that it is told, and one that ends the training."""
    callback = Told()
    callback.said = []
    if stop is None:
        return [callback]
    return [callback, StopAt(stop, lambda: setattr(callback.model, "stop_training", True))]


@pytest.mark.parametrize("stop", [None, 6, 8])
def test_the_loop_does_and_tells_what_fit_does_and_tells(tmp_path, stop):
    ours, fits = told(stop), told(stop)
    ran, best = run(tmp_path, *ours)
    model = build()
    history = model.fit(
        batches(0, None),
        epochs=3,
        steps_per_epoch=4,
        validation_data=tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),
        shuffle=False,
        verbose=0,
        callbacks=fits,
    ).history
    for a, b in zip(ran.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, strict=True)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose([float(row[name]) for row in rows], history[name], rtol=1e-5)
    assert [(*event[:-1], set(event[-1])) for event in ours[0].said] == [
        (*event[:-1], set(event[-1])) for event in fits[0].said
    ]
    for a, b in zip(ours[0].said, fits[0].said, strict=True):
        assert a[-1] == pytest.approx(b[-1], abs=2e-5), a
    assert best.state[0] > 0
    if stop:
        assert Checkpoints(tmp_path / "checkpoints").latest().step == stop


def test_what_keras_brings(tmp_path):
    """A scheduler, early stopping, a log and a checkpoint, each as under `fit`."""
    rates = []
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    early = keras.callbacks.EarlyStopping("val_loss", mode="max")
    model, _ = run(
        tmp_path,
        schedule,
        early,
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(tmp_path / "at-{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: rates.append(float(model_of(schedule)))
        ),
        schedule=dataclasses.replace(SCHEDULE, epochs=5),
    )
    assert rates == pytest.approx([5e-3, 2.5e-3])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 2
    other = build()
    other.load_weights(tmp_path / "at-2.weights.h5")
    for a, b in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def model_of(callback):
    return callback.model.optimizer.learning_rate


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("step", [5, 6])
def test_a_rate_that_was_set_in_the_epoch_is_not_set_again(tmp_path, step):
    """Gone on with in the middle of an epoch, callbacks are told of its begin again."""
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    with pytest.raises(Killed):
        run(tmp_path / "killed", halved, StopAt(step, kill))
    model, _ = run(tmp_path / "killed", halved)
    expected, _ = run(tmp_path / "whole", halved)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2 / 8)


def test_input_that_is_not_finite_is_named_by_step_and_rows(tmp_path):
    with pytest.raises(UserError, match=r"step 7 \(epoch 2\): the images or tags.*106, 206"):
        run(tmp_path, training=lambda first, parts: batches(first, parts, spoilt=6))
    # What was saved before is sound.
    assert Checkpoints(tmp_path / "checkpoints").latest().step == 6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(UserError, match=r"a loss is not finite.*Lower the learning rates"):
        run(tmp_path, rate=1e30)


@pytest.mark.usefixtures("eagerly")
def test_a_full_disk_costs_no_work(tmp_path, whole, monkeypatch, capsys):
    save = Checkpoints.save

    def full(self, checkpoint):
        if checkpoint.step < 9:
            raise OSError(28, "No space left on device")
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", full)
    assert_same(outcome(tmp_path, *run(tmp_path)), whole)
    assert "could not be written (No space left on device)" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused(finished):
    other = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(1, name="logit")])
    other.compile("adam", "mse")
    with pytest.raises(UserError, match="from other settings or from an earlier version"):
        go_on(finished, other)


def go_on(folder, model, *callbacks, best=None):
    """Restores what was saved at the end into another model; nothing is left to do then."""
    train(
        model,
        Data(batches, tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), None),
        SCHEDULE,
        best or BestWeights("val_loss"),
        list(callbacks),
        Checkpoints(folder / "checkpoints"),
        tf.distribute.get_strategy(),
    )


def rewritten(folder, change):
    """Changes the arrays of the newest checkpoint, as NumPy alone writes them."""
    path = max((folder / "checkpoints").iterdir())
    with np.load(path) as file:
        arrays = change({name: file[name] for name in file.files})
    np.savez(path, **arrays)


def swapped(a, b):
    return lambda arrays: {**arrays, a: arrays[b], b: arrays[a]}


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            swapped("variables/net/hidden/kernel", "variables/net/logit/kernel"),
            r"hidden/kernel: the checkpoint has float32 \(5, 1\), this model has float32 \(6, 5\)",
        ),
        (
            without("variables/adam/iteration"),
            r"adam/iteration: the checkpoint has no such variable, this model has int",
        ),
        (
            lambda arrays: {**arrays, "variables/net/more": np.zeros(3, np.float32)},
            r"net/more: the checkpoint has float32 \(3,\), this model has no such variable",
        ),
        (
            lambda arrays: {**arrays, "variables/loss/total": np.zeros((), np.float64)},
            r"loss/total: the checkpoint has float64 \(\), this model has float32 \(\)",
        ),
        (
            swapped("best/net/hidden/kernel", "best/net/logit/kernel"),
            r"net/hidden/kernel: the checkpoint has float32 \(5, 1\)",
        ),
        (without("best/net/norm/gamma"), r"net/norm/gamma: the checkpoint has no such variable"),
        (
            lambda arrays: {name.replace("/", "-"): array for name, array in arrays.items()},
            r"net/hidden/kernel: the checkpoint has no such variable.* from an earlier version",
        ),
    ],
)
def test_a_checkpoint_whose_variables_are_not_the_models_changes_nothing(finished, change, words):
    rewritten(finished, change)
    model = build()
    before = values_of(state_variables(model))
    with pytest.raises(UserError, match=words):
        go_on(finished, model, History(finished / "history.csv"))
    for path, value in values_of(state_variables(model)).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.usefixtures("eagerly")
def test_the_order_in_the_file_does_not_matter(finished, whole):
    rewritten(finished, lambda arrays: dict(reversed(arrays.items())))
    assert_same(outcome(finished, *run(finished)), whole)


class Twins(keras.Model):
    """Two layers of one shape, built in one order or the other."""

    def __init__(self, names):
        super().__init__(name="net")
        for name in names:
            setattr(self, name, keras.layers.Dense(6, name=name))
            getattr(self, name).build((None, 6))

    def call(self, x, training=False):
        return self.b(self.a(x))


def twins(*names):
    model = Twins(names)
    model.compile(keras.optimizers.Adam(1e-2, name="adam"), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.test_on_batch(X[:4], X[:4])
    return model


def test_the_order_in_which_a_model_was_built_does_not_matter(tmp_path):
    first = twins("a", "b")
    for k, variable in enumerate(state_variables(first).values()):
        variable.assign(np.full(variable.shape, k))
    assert [v.path for v in first.variables][:3:2] == ["a/kernel", "b/kernel"]
    best = {path: value + 100 for path, value in values_of(by_path(first.variables)).items()}
    Checkpoints(tmp_path / "checkpoints").save(
        Checkpoint(
            SCHEDULE.total, values_of(state_variables(first)), best, {"BestWeights": [1, 0.5]}
        )
    )
    build()  # so that what has no name is numbered otherwise
    second, kept = twins("b", "a"), BestWeights("val_loss")
    assert [v.path for v in second.variables][:3:2] == ["b/kernel", "a/kernel"]
    go_on(tmp_path, second, best=kept)
    for k, path in enumerate(state_variables(first)):
        found = state_variables(second)[path]
        np.testing.assert_array_equal(found, np.full(found.shape, k), err_msg=path)
    assert kept.restore() == 1
    np.testing.assert_array_equal(second.a.kernel, best["a/kernel"])
    np.testing.assert_array_equal(second.b.kernel, best["b/kernel"])


def test_a_callback_without_its_state_is_refused(tmp_path):
    Checkpoints(tmp_path / "checkpoints").save(
        Checkpoint(5, values_of(state_variables(build())), {}, {"BestWeights": [0, 1.0]})
    )
    with pytest.raises(UserError, match="no state of History"):
        go_on(tmp_path, build(), History(tmp_path / "history.csv"))
    with pytest.raises(ValueError, match="same class"):
        go_on(tmp_path, build(), *(History(tmp_path / name) for name in "ab"))
