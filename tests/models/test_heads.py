"""U-Net and classifier as Keras models: fit, callbacks, saving, predict and export."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import load_encoder
from tf_dicom_ce.models.heads import Classifier, UNet
from tf_dicom_ce.preprocessing import resize, standardise
from tf_dicom_ce.saved_model.reading import load_head

SIZE = (32, 64)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, *SIZE, 1)).astype(np.float32)
LABELS, MASKS = np.array([0, 2, 1, 2]), RNG.integers(0, 3, (4, *SIZE))
HEADS = {
    "unet": (UNet, {}, MASKS),
    # Without dropout, whose seeds Keras does not save, and which XLA draws otherwise.
    "ordinal": (Classifier, {"positive_weight": 3.0, "dropout": 0.0}, LABELS),
    "nominal": (Classifier, {"ordinal": False, "dropout": 0.0}, LABELS),
}
every_head = pytest.mark.parametrize("name", HEADS)


def encoder(size=SIZE):
    """Any Keras model of five scales."""
    h = image = keras.Input((*size, 1))
    scales = {}
    for k in range(1, 6):
        h = keras.layers.Conv2D(k, 3, 2, "same", activation="relu", name=f"conv{k}")(h)
        scales[f"P{k}"] = h
    return keras.Model(image, scales, name="encoder")


def head(name, size=SIZE, **compiled):
    """Compiled; for a step or two no graph is worth its time."""
    keras.utils.set_random_seed(0)
    kind, own, targets = HEADS[name]
    model = kind(encoder(size), 3, width_multiplier=1 / 32, **own)
    model.build((None, *size, 1))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True, **compiled)
    return model, targets


def soft_dice(p, one_hot):
    p, g = p[..., 1:], one_hot[..., 1:]
    overlap, size = (p * g).sum((0, 1, 2)), p.sum((0, 1, 2)) + g.sum((0, 1, 2))
    return ((2 * overlap + 1) / (size + 1)).mean()


@every_head
def test_loss_and_metric_by_hand(name):
    model, targets = head(name)
    z = np.asarray(model(X), np.float64)
    if name == "ordinal":
        codes = np.array([[0, 0], [1, 1], [1, 0], [1, 1]])
        p = 1 / (1 + np.exp(-z))
        loss = -np.mean(3 * codes * np.log(p) + (1 - codes) * np.log(1 - p))
        watched = {"accuracy": np.mean((z > 0).sum(-1) == targets)}
    else:
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        right = np.eye(3)[targets]
        loss = -np.mean(np.log((p * right).sum(-1)))
        watched = {"accuracy": np.mean(p.argmax(-1) == targets)}
        if name == "unet":
            loss = 1 - soft_dice(p, right)
            watched = {"dice": soft_dice(np.eye(3)[p.argmax(-1)], right)}
    found = model.evaluate(X, targets, batch_size=4, verbose=0, return_dict=True)
    assert found == pytest.approx({"loss": loss, **watched}, rel=1e-5)


@every_head
def test_loss_and_metrics_of_ones_own(name):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="own")
    model, targets = head("nominal" if name == "ordinal" else name, loss=loss, metrics=[])
    found = model.evaluate(X, targets, verbose=0, return_dict=True)
    expected = float(tf.reduce_mean(loss(targets, model(X))))
    assert found == {"loss": pytest.approx(expected, rel=1e-5)}


@every_head
def test_predict_gives_the_answers(name):
    model, _ = head(name)
    expected = {k: v.numpy() for k, v in model.answer(model(X)).items()}
    found = model.predict(X, batch_size=3, verbose=0)
    assert set(found) == {"probabilities", "mask" if name == "unet" else "class_id"}
    for k, values in found.items():
        np.testing.assert_allclose(values, expected[k], rtol=1e-5, atol=1e-6)


@every_head
def test_a_saved_model_goes_on_as_if_it_had_not_been(name, tmp_path):
    model, targets = head(name)
    model.train_on_batch(X, targets)
    model.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    for one in (model, loaded):
        one.train_on_batch(X, targets)
    of = [[*one.weights, *one.optimizer.variables] for one in (model, loaded)]
    for a, b in zip(*of, strict=True):
        np.testing.assert_array_equal(a, b)
    assert type(loaded.encoder) is type(model.encoder)


@every_head
def test_a_clone_is_of_the_same_form(name):
    model, _ = head(name)
    for clone in (keras.models.clone_model(model), type(model).from_config(model.get_config())):
        clone.build((None, *SIZE, 1))
        assert not np.array_equal(clone(X), model(X))
        clone.set_weights(model.get_weights())
        np.testing.assert_array_equal(clone(X), model(X))
        assert clone.get_config() == model.get_config()


def test_a_frozen_encoder_stays_frozen_when_it_is_loaded(exported, tmp_path):
    """On an exported encoder, too, whose folder only those load who trust it."""
    for own in (encoder(), load_encoder(exported[1])):
        own.trainable = False
        model = Classifier(own, 3, width_multiplier=1 / 32)
        model.compile(run_eagerly=True)
        model.train_on_batch(X, LABELS)
        model.save(tmp_path / "head.keras")
        loaded = keras.saving.load_model(tmp_path / "head.keras", safe_mode=False)
        np.testing.assert_array_equal(loaded(X), model(X))
        before = loaded.encoder.get_weights()
        loaded.train_on_batch(X, LABELS)
        for a, b in zip(before, loaded.encoder.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.saving.load_model(tmp_path / "head.keras")


@every_head
def test_callbacks(name, tmp_path):
    model, targets = head(name)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: [0.1, 0.0, 0.0, 0.0][epoch])
    watched = "val_dice" if name == "unet" else "val_accuracy"
    history = model.fit(
        X,
        targets,
        validation_data=(X, targets),
        epochs=4,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.EarlyStopping("loss", min_delta=1e9),  # after the second epoch
            rates,
        ],
    ).history
    assert history["learning_rate"] == pytest.approx([0.1, 0.0])
    with (tmp_path / "log.csv").open() as file:
        logged = [float(row[watched]) for row in csv.DictReader(file)]
    assert logged == pytest.approx(history[watched])
    kept = [keras.saving.load_model(tmp_path / f"{k}.keras") for k in (1, 2)]
    for a, b in zip(*(one.trainable_variables for one in kept), strict=True):
        np.testing.assert_array_equal(a, b)  # for the second rate was 0
    np.testing.assert_array_equal(kept[1](X), model(X))
    again, _ = head(name)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    again.fit(X, targets, epochs=2, verbose=0, callbacks=[backup])  # both are done
    np.testing.assert_array_equal(again(X), model(X))


@every_head
def test_the_global_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, targets = head(name)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.dtype_policy.name == "mixed_float16"
    assert {"float16", "float32"} == {layer.compute_dtype for layer in model._flatten_layers()}
    assert model(X).dtype == "float32"
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    exact, _ = head(name)
    losses = [one.train_on_batch(X, targets)[0] for one in (model, exact)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)


@every_head
def test_xla(name):
    """As without it, to rounding; Adam is compiled with one of the heads of few variables."""
    found = []
    for jit_compile in (False, True):
        model, targets = head(name)
        optimizer = model.optimizer if name == "nominal" else keras.optimizers.SGD(1e-2)
        model.compile(optimizer, run_eagerly=not jit_compile, jit_compile=jit_compile)
        found.append([model.train_on_batch(X, targets) for _ in range(2)])
    np.testing.assert_allclose(*found, rtol=1e-3)


@every_head
def test_export_of_a_notebook(name, tmp_path):
    """It answers as here, and says only what is known."""
    model, _ = head(name)
    folder = model.export(tmp_path / "organs")
    assert folder == tmp_path / "organs" / "1"
    loaded = load_head(folder.parent)
    assert (loaded.task, loaded.image_size) == (model.task, SIZE)
    assert loaded.classes == ("0", "1", "2")
    images = RNG.integers(0, 256, (2, 50, 60, 1), dtype=np.uint8)
    expected = model.predict(standardise(resize(images, SIZE)), verbose=0)
    found = loaded(images)
    assert set(found) == set(expected)
    for k, values in expected.items():
        assert found[k].dtype == values.dtype
        np.testing.assert_allclose(found[k], values, atol=1e-5)
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Synthetic or not: not recorded" in card


def test_export_wants_a_size_where_there_is_none(tmp_path):
    """The next export has classes, too."""
    model, _ = head("nominal", (None, None))
    with pytest.raises(UserError, match=r"export of classifier: .* image_size=\(height, width\)"):
        model.export(tmp_path / "organs")
    assert load_head(model.export(tmp_path / "organs", (64, 32))).image_size == (64, 32)
    classes = ["none", "liver", "a|b"]
    named = model.export(tmp_path / "organs", (32, 32), metadata={"classes": classes})
    assert load_head(tmp_path / "organs").folder == named
    assert load_head(named).classes == tuple(classes)
    unet, _ = head("unet", (None, None))
    assert unet.predict(X[:, :, :32], verbose=0)["mask"].shape == (4, 32, 32)
