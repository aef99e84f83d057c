"""The sentinel's measures against NumPy by hand, its warnings, and its way through a resume."""

import csv
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.models.gan import mask_centre, paste_patch
from tf_dicom_ce.training.networks import build_pretraining
from tf_dicom_ce.training.sentinel import (
    Alarms,
    Rule,
    Sentinel,
    contrast,
    cycled,
    diversity,
    measure,
    rules,
    sensitivities,
)

SPANS = (("study", 0, 3), ("probe", 3, 4))
Y = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)


class StubD:
    """C_rf is the patch's mean, P a fixed number for each label."""

    def __init__(self, weights=(1.0, 3.0, 7.0, -2.0)):
        self.weights = np.array(weights, np.float32)

    def __call__(self, x, y):
        c_rf = tf.reduce_mean(tf.convert_to_tensor(x), axis=(1, 2, 3))
        p = tf.linalg.matvec(y, self.weights)
        return {"c_rf": c_rf, "p": p, "logit": c_rf + p}


def stub_model(paint, discriminator=None, seen_by_d=lambda x, patch: patch):
    return SimpleNamespace(
        paint=lambda x: paint(mask_centre(x)),
        seen_by_d=seen_by_d,
        discriminator=discriminator or StubD(),
    )


def images(count=3):
    return np.random.default_rng(0).normal(size=(count, 8, 8, 1)).astype(np.float32)


def test_diversity_and_contrast_of_known_patches():
    true = np.random.default_rng(0).normal(size=(5, 4, 4, 1))
    assert diversity(true, true) == pytest.approx(1)
    assert diversity(true / 2, true) == pytest.approx(0.5)
    same = np.repeat(true[:1], 5, axis=0)
    assert diversity(same, true) == 0
    assert contrast(same, true) > 0.5
    flat = np.ones((5, 4, 4, 1)) * np.arange(5)[:, None, None, None]
    assert contrast(flat, true) == 0
    assert diversity(flat, true) == pytest.approx(np.std(np.arange(5)) / true.std(axis=0).mean())


def test_cycling_moves_one_tag_and_switches_a_tag_of_one_label():
    np.testing.assert_array_equal(cycled(Y, 0, 3)[:, :3], [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(cycled(Y, 0, 3)[:, 3], Y[:, 3])
    np.testing.assert_array_equal(cycled(Y, 3, 4)[:, 3], [0, 1, 0])


def test_sensitivity_is_the_mean_change_over_images_that_have_the_tag():
    found = sensitivities(StubD(), images(), Y, SPANS)
    assert found["study"] == pytest.approx((abs(3 - 1) + abs(7 - 3)) / 2, rel=1e-5)
    assert found["probe"] == pytest.approx(2, rel=1e-5)
    none = sensitivities(StubD(), images(), np.zeros_like(Y), SPANS)
    assert np.isnan(none["study"])


@pytest.mark.parametrize("seen", ["patch", "composite"])
def test_measures_by_numpy(seen):
    x = images()
    paint = lambda x: np.full((len(x), 4, 4, 1), 0.25, np.float32)  # noqa: E731
    shows = {"patch": lambda x, patch: patch, "composite": paste_patch}[seen]
    measured = measure(stub_model(paint, seen_by_d=shows), x, Y, SPANS)
    patch = x[:, 2:6, 2:6]
    pasted = x.copy()
    pasted[:, 2:6, 2:6] = 0.25
    real, fake = (patch, np.full_like(patch, 0.25)) if seen == "patch" else (x, pasted)
    p = Y @ np.array([1, 3, 7, -2])
    c_real, c_fake = (a.mean((1, 2, 3)).astype(float) for a in (real, fake))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    expected = {
        "d_real": sigmoid(c_real + p).mean(),
        "d_fake": sigmoid(c_fake + p).mean(),
        "accuracy": ((c_real + p > 0).mean() + (c_fake + p < 0).mean()) / 2,
        "gap": (c_real - c_fake).mean(),
        "adv": -np.log(sigmoid(c_fake + p)).mean(),
        "diversity": 0,
        "contrast": 0,
        "c_rf": (np.abs(c_real) + np.abs(c_fake)).mean() / 2,
    }
    expected["p_share"] = np.abs(p).mean() / (np.abs(p).mean() + expected["c_rf"])
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert set(measured) == {*expected, "sensitivity study", "sensitivity probe"}


HEALTHY = {
    "accuracy": 0.92, "adv": 2.6, "gap": 5.0, "diversity": 0.6, "contrast": 0.6, "c_rf": 1.5,
    "sensitivity study": 1.0, "sensitivity probe": 0.7,
}  # fmt: skip
WRONG = {
    "D has won": {"accuracy": 1.0, "adv": 5.0},
    "F has collapsed": {"diversity": 0.01},
    "D ignores the tag 'probe'": {"sensitivity probe": 0.05},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_warning_is_raised_once_clears_and_is_raised_again(name):
    alarms = Alarms(rules(SPANS))
    wrong = HEALTHY | WRONG[name]
    said = []
    for epoch in range(1, 31):
        measures = HEALTHY if 15 <= epoch < 20 else wrong
        said += [(epoch, event, rule.name) for event, rule in alarms.update(epoch, measures)]
    assert [(event, rule) for _, event, rule in said] == [
        ("raised", name), ("cleared", name), ("raised", name)
    ]  # fmt: skip
    assert said[1][0] == 15


def test_an_equilibrium_after_a_fight_is_no_blindness():
    equal = HEALTHY | {"gap": 0.01, "accuracy": 0.5}
    for before, expected in (([], ["raised", "cleared"]), ([HEALTHY], [])):
        alarms = Alarms(rules(SPANS))
        epochs = [*before, *[equal] * 10, HEALTHY, *[equal] * 10]
        said = [alarms.update(k, m) for k, m in enumerate(epochs, start=1)]
        events = [(event, rule.name) for changes in said for event, rule in changes]
        assert events == [(event, "D sees nothing") for event in expected]


def test_healthy_measures_and_missing_ones_are_quiet():
    alarms = Alarms(rules(SPANS))
    for epoch in range(1, 20):
        assert alarms.update(epoch, HEALTHY | {"sensitivity probe": float("nan")}) == []
    # One bad epoch between good ones is not a streak.
    for epoch in range(20, 40):
        measures = HEALTHY | ({"accuracy": 1.0, "adv": 9.0} if epoch % 3 else {})
        assert alarms.update(epoch, measures) == []


def test_alarms_go_on_from_their_state():
    rule = Rule("low", lambda m: m["v"] < 1, "raise it", epochs=3, after=1)
    values = [0, 0, 0, 0, 2, 0, 0, 0, 0, 2]
    whole = Alarms((rule,))
    expected = [[e for e, _ in whole.update(k + 1, {"v": v})] for k, v in enumerate(values)]
    assert expected == [[], [], [], ["raised"], ["cleared"], [], [], ["raised"], [], ["cleared"]]
    found, state = [], None
    for k, v in enumerate(values):
        alarms = Alarms((rule,))
        if state:
            alarms.state = json.loads(state)
        found.append([e for e, _ in alarms.update(k + 1, {"v": v})])
        state = json.dumps(alarms.state)
    assert found == expected


def callback(run, model, said, writer=None):
    sentinel = Sentinel(
        run, images(), Y, SPANS, writer or tf.summary.create_noop_writer(), said.append
    )
    sentinel.set_model(model)
    return sentinel


def collapsed():
    return stub_model(lambda x: np.zeros((len(x), 4, 4, 1), np.float32))


def run_epochs(sentinel, epochs):
    sentinel.on_train_begin()
    for epoch in epochs:
        sentinel.on_epoch_end(epoch)


def test_a_resumed_run_leaves_the_same_files(tmp_path):
    said = []
    (tmp_path / "whole").mkdir()
    run_epochs(callback(tmp_path / "whole", collapsed(), said), range(9))
    assert any("F has collapsed" in line for line in said)

    (tmp_path / "cut").mkdir()
    first = callback(tmp_path / "cut", collapsed(), [])
    run_epochs(first, range(5))
    saved = json.dumps(first.state)
    for epoch in (5, 6, 7):  # after the checkpoint; lost
        first.on_epoch_end(epoch)
    second = callback(tmp_path / "cut", collapsed(), [])
    second.state = json.loads(saved)
    run_epochs(second, range(5, 9))
    for name in ("sentinel.csv", "warnings.jsonl"):
        a, b = ((tmp_path / k / name).read_text() for k in ("whole", "cut"))
        assert a == b
    with (tmp_path / "cut" / "sentinel.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(k) for k in range(1, 10)]
    rows = [json.loads(line) for line in a.splitlines()]
    assert {"epoch": 7, "event": "raised", "warning": "F has collapsed"}.items() <= rows[-1].items()


def test_tensorboard_receives_the_group_and_the_text(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    run_epochs(callback(tmp_path, collapsed(), [], writer), range(8))
    writer.close()
    found = {}
    for path in tmp_path.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    assert [step for step, _ in found["sentinel/diversity"]] == list(range(1, 9))
    step, value = found["sentinel"][-1]
    assert step == 7
    assert b"F has collapsed" in value.tensor.string_val[0]


def test_the_default_line_goes_to_standard_error(tmp_path, capsys):
    sentinel = Sentinel(tmp_path, images(), Y, (), tf.summary.create_noop_writer())
    sentinel.set_model(collapsed())
    run_epochs(sentinel, range(7))
    assert "epoch 7  F has collapsed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_model_that_cannot_paint_is_found_out(tmp_path):
    """The output's weights are 0 and F does not learn, while D does."""
    config = PretrainConfig(
        image_size=(32, 32), width=1 / 32, batch_size=3, g_learning_rate=0.0, d_learning_rate=1e-2
    )
    keras.utils.set_random_seed(0)
    model = build_pretraining(config, 4)
    model.decoder.patch.kernel.assign(tf.zeros_like(model.decoder.patch.kernel))
    x = np.random.default_rng(0).normal(size=(3, 32, 32, 1)).astype(np.float32)
    said = []
    sentinel = Sentinel(tmp_path, x, Y, SPANS, tf.summary.create_noop_writer(), said.append)
    sentinel.set_model(model)
    step = tf.function(model.train_step, autograph=False)
    for epoch in range(8):
        for _ in range(20):
            step((tf.constant(x), {"tags": tf.constant(Y)}))
        sentinel.on_epoch_end(epoch)
    assert any("F has collapsed" in line for line in said)
    assert any("D has won" in line for line in said)
