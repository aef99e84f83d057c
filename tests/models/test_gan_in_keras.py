"""The method in a notebook: compiled, fitted, watched, saved, cloned and exported by Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.models.backbones import Backbone
from tf_dicom_ce.models.decoder import Decoder
from tf_dicom_ce.models.discriminator import AuxiliaryDiscriminator, ProjectionDiscriminator
from tf_dicom_ce.models.gan import ContextEncoderGAN
from tf_dicom_ce.models.spectral import SpectralNormalization
from tf_dicom_ce.models.tag_head import TagHead

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 32, 64, 1)).astype(np.float32)
TAGS = {"tags": RNG.integers(0, 2, (8, 11)), "known": np.ones((8, 11))}
TRAIN = tf.data.Dataset.from_tensor_slices((X, TAGS)).batch(4)
LOSSES = ["adv", "c_rf", "d_fake", "d_real", "disc", "joint", "p", "rec", "rec_of_mean"]


def encoder():
    """Five convolutions of stride 2: as good as VGG16 here, and traced in less time."""
    x = image = keras.Input((None, None, 3))
    for k in range(5):
        x = keras.layers.Conv2D(3 + k, 3, 2, "same", activation="relu", name=f"conv{k}")(x)
    return Backbone(keras.Model(image, x, name="narrow"))


def gan(**parts):
    """Compiled; for a step or two no graph is worth its time."""
    keras.utils.set_random_seed(0)
    model = ContextEncoderGAN(
        encoder=encoder(),
        discriminator=ProjectionDiscriminator(labels=11, width_multiplier=1 / 32),
        lambda_rec=0.99,
        lambda_adv=0.01,
        decoder=Decoder(1 / 32),
        **parts,
    )
    model.compile(
        g_optimizer=keras.optimizers.Adam(1e-3),
        d_optimizer=keras.optimizers.Adam(1e-4),
        run_eagerly=True,
    )
    return model


def fit(model, **more):
    return model.fit(TRAIN, validation_data=TRAIN, verbose=0, shuffle=False, **more)


def test_history_holds_the_losses_of_both_sides():
    model = gan()
    history = fit(model, epochs=2).history
    assert sorted(history) == sorted(
        [*LOSSES, "g_norm", "d_norm", *(f"val_{name}" for name in LOSSES)]
    )
    measures = model.evaluate(TRAIN, verbose=0, return_dict=True)
    assert measures == pytest.approx({name: history[f"val_{name}"][-1] for name in LOSSES})
    painted = model.predict(X, verbose=0)
    np.testing.assert_array_equal(painted[:, :8], X[:, :8])
    patch = model.decoder(model.encoder(tf.where(painted == X, X, 0))["P5"])
    np.testing.assert_allclose(painted[:, 8:24, 16:48], patch, atol=1e-4)


def test_one_batch_with_tags_and_without():
    model = gan()
    assert set(model.train_on_batch(X[:4], return_dict=True)) > {"joint", "rec"}
    untagged = {"tags": 0 * TAGS["tags"][:4]}
    one, two = (
        {name: float(v) for name, v in gan().train_step(batch).items()}
        for batch in ((X[:4], untagged), X[:4])
    )
    assert one == two


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_saved_and_loaded_it_goes_on_as_it_would_have(precision, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = gan(tag_head=TagHead(11), lambda_tags=0.5, adversarial="hinge", composite=True)
        fit(model)
        model.save(tmp_path / "gan.keras")
        loaded = keras.saving.load_model(tmp_path / "gan.keras")
        np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
        assert fit(loaded).history == fit(model).history
        clone = keras.models.clone_model(model)
        assert clone.get_config() == model.get_config()
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    "discriminator",
    [
        lambda: SpectralNormalization(ProjectionDiscriminator(11, 1 / 32)),
        lambda: AuxiliaryDiscriminator(11, 1 / 32),
    ],
)
def test_other_parts_saved_and_loaded(discriminator, tmp_path):
    model = ContextEncoderGAN(encoder(), discriminator())
    model.compile(run_eagerly=True)
    fit(model)
    model.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert loaded.evaluate(TRAIN, verbose=0) == model.evaluate(TRAIN, verbose=0)
    for a, b in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_callbacks(tmp_path):
    model = gan()
    model.build((None, 32, 64, 1))
    rates = []
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: rates.append(
                [float(o.learning_rate) for o in (model.g_optimizer, model.d_optimizer)]
            )
        ),
        keras.callbacks.EarlyStopping("val_rec_of_mean", mode="min", patience=1),  # always the same
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", "val_rec", mode="min", save_best_only=True
        ),
        keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        keras.callbacks.TensorBoard(tmp_path / "board"),
    ]
    history = fit(model, epochs=5, callbacks=callbacks).history
    assert len(rates) < 5  # stopped early
    np.testing.assert_allclose(rates[0], [5e-4, 5e-5], rtol=1e-5)
    np.testing.assert_allclose(rates[1], [2.5e-4, 2.5e-5], rtol=1e-5)
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert len(log) == 1 + len(rates)
    assert "val_joint" in log[0]
    assert list((tmp_path / "board" / "train").iterdir())
    best = keras.saving.load_model(tmp_path / "best.keras")
    measures = best.evaluate(TRAIN, verbose=0, return_dict=True)
    assert measures["rec"] == pytest.approx(min(history["val_rec"]))
    other = gan()
    other.build((None, 32, 64, 1))
    fit(other, epochs=len(rates), callbacks=callbacks[5:6])  # all done: nothing but the backup
    for a, b in zip(other.variables, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_by_xla():
    """With SGD: to compile Adam costs as much as all of the method."""
    plain, compiled = gan(), gan()
    for model, by_xla in ((plain, False), (compiled, True)):
        optimizers = keras.optimizers.SGD(1e-3), keras.optimizers.SGD(1e-4)
        model.compile(*optimizers, run_eagerly=not by_xla, jit_compile=by_xla)
    one, two = (model.train_on_batch(X, TAGS, return_dict=True) for model in (plain, compiled))
    assert one == pytest.approx(two, rel=1e-3)


def test_exported(tmp_path):
    model = gan()
    history = fit(model, epochs=3).history
    assert history["rec"][-1] < history["rec"][0]
    version = model.encoder.export(tmp_path / "encoder")
    assert version == tmp_path / "encoder" / "1"
    served = tf.saved_model.load(str(version))
    for name, scale in served.serve(tf.constant(X)).items():
        np.testing.assert_allclose(scale, model.encoder(X)[name], rtol=1e-5, atol=1e-6)
