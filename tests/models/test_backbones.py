"""Networks of others as encoders, against what they answer by themselves."""

import keras
import numpy as np
import pytest
from keras import layers

from tf_dicom_ce.config import BACKBONES
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models import backbones
from tf_dicom_ce.models.backbones import APPLICATIONS, PREPROCESSING, Backbone, build_encoder

X = np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype(np.float32)


def small(blocks=5, channels=1):
    """Halves so many times: convolution, BatchNorm, dropout."""
    x = image = keras.Input((None, None, channels))
    for k in range(1, blocks + 1):
        x = layers.Conv2D(k + 1, 3, strides=2, padding="same", name=f"conv{k}")(x)
        x = layers.BatchNormalization(name=f"bn{k}")(x)
        x = layers.Dropout(0.5, name=f"drop{k}")(x)
    return keras.Model(image, x, name="small")


def numbers(scales):
    return {name: scale.numpy() for name, scale in scales.items()}


def assert_same(a, b):
    assert list(a) == ["P1", "P2", "P3", "P4", "P5"]
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_resnet50_answers_as_by_itself():
    encoder = build_encoder("resnet50")
    plain = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    plain.set_weights(encoder.network.get_weights())
    names = ("conv1_relu", *(f"conv{k}_block{n}_out" for k, n in ((2, 3), (3, 4), (4, 6), (5, 3))))
    three = np.concatenate([X, X, X], axis=-1) * (255 * 0.226)
    expected = keras.Model(plain.input, [plain.get_layer(name).output for name in names])(three)
    for scale, by_hand in zip(encoder(X).values(), expected, strict=True):
        np.testing.assert_allclose(scale, by_hand, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
def test_what_goes_in_is_as_imagenets_pixels(mode):
    """Pixels with ImageNet's mean and sd of each channel, through Keras' own preprocessing."""
    unit = np.random.default_rng(1).normal(size=(50_000, 3))
    unit = (unit - unit.mean(0)) / unit.std(0)
    pixels = 255 * (unit * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406))
    raw_scale, raw_offset = PREPROCESSING["raw"]
    assert pixels.std(0).mean() == pytest.approx(raw_scale, rel=1e-3)
    assert pixels.mean() == pytest.approx(raw_offset, rel=1e-3)
    scale, offset = PREPROCESSING[mode]
    seen = keras.applications.imagenet_utils.preprocess_input(pixels[None], mode=mode)[0]
    assert seen.std(0).mean() == pytest.approx(scale, rel=2e-3)
    assert seen.mean() == pytest.approx(offset, abs=0.01 * scale)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_five_scales(name):
    encoder = build_encoder(name, width=1 / 32)
    scales = encoder(X[:1, :32].repeat(2, axis=2))
    for k, (scale_name, scale) in enumerate(scales.items(), start=1):
        assert scale_name == f"P{k}"
        assert scale.shape[:3] == (1, 32 // 2**k, 128 // 2**k)
        assert scale.dtype == "float32"
    assert encoder.name == "encoder"
    assert len({v.path for v in encoder.variables}) == len(encoder.variables)


def test_every_name_has_its_network():
    assert ("vgg16bn", *APPLICATIONS, "efficientnetlite0") == BACKBONES


def test_the_last_layer_of_each_stride_or_those_that_are_named():
    network = small()
    assert Backbone(network).scale_layers == ("drop1", "drop2", "drop3", "drop4", "drop5")
    named = Backbone(network, [f"conv{k}" for k in range(1, 6)], "tf")
    first = network.get_layer("conv1")(0.452 * X - 0.102)
    np.testing.assert_allclose(named(X)["P1"], first, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="small: no layer has the stride 32 of P5"):
        Backbone(small(blocks=4))
    with pytest.raises(UserError, match="small: layer conv1 does not have the stride 4 of P2"):
        Backbone(network, ["conv1", "conv1", "conv3", "conv4", "conv5"])


def test_frozen_is_bit_identical():
    encoder = Backbone(small())
    before = [v.numpy() for v in encoder.variables]
    still = numbers(encoder(X))
    encoder.trainable = False
    assert not encoder.trainable_variables
    assert_same(numbers(encoder(X, training=True)), still)
    for variable, value in zip(encoder.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    encoder.trainable = True
    encoder(X, training=True)
    moved = {
        v.path
        for v, value in zip(encoder.variables, before, strict=True)
        if not np.array_equal(v, value)
    }
    of_norms = {f"bn{k}/moving_{what}" for k in range(1, 6) for what in ("mean", "variance")}
    assert moved == of_norms | {f"drop{k}/seed" for k in range(1, 6)}


@pytest.mark.parametrize("trainable", [True, False])
def test_a_saved_backbone_is_the_same_backbone(tmp_path, trainable):
    encoder = Backbone(small(channels=3), preprocessing="caffe", trainable=trainable)
    encoder(X, training=True)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    clone = keras.models.clone_model(encoder)
    clone.set_weights(encoder.get_weights())
    for other in (loaded, clone):
        assert_same(numbers(other(X)), numbers(encoder(X)))
        assert other.trainable is trainable
        assert [v.path for v in other.variables] == [v.path for v in encoder.variables]


def test_built_under_a_policy():
    encoder = build_encoder("mobilenetv2", dtype="mixed_bfloat16")
    assert {v.dtype for v in encoder.variables} == {"float32"}
    assert {scale.dtype.name for scale in encoder(X).values()} == {"bfloat16"}
    assert keras.config.dtype_policy().name == "float32"


def test_weights_from_a_file(tmp_path):
    """Of an encoder, and of a model with its classifier, whatever the size it was built for."""
    encoder = build_encoder("mobilenetv2")
    encoder(X)
    encoder.save(tmp_path / "encoder.keras")
    same = build_encoder("mobilenetv2", weights=str(tmp_path / "encoder.keras"))
    assert_same(numbers(same(X)), numbers(encoder(X)))
    whole = keras.applications.MobileNetV2(weights=None, classes=7)
    whole.save(tmp_path / "whole.keras")
    copied = build_encoder("mobilenetv2", weights=str(tmp_path / "whole.keras"))
    expected = {v.path: v.numpy() for v in whole.weights}
    assert len(expected) == len(copied.weights) + 2
    for variable in copied.weights:
        np.testing.assert_array_equal(variable, expected[variable.path])


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "encoder.keras"
    saved = build_encoder("vgg16bn", 1 / 32)
    saved(X)
    saved.save(path)
    build_encoder("vgg16bn", 1 / 32, str(path))
    kernel = r"\S+/conv1/conv/kernel: \(3, 3, 1, 2\) in the file, \(3, 3, 1, 4\) here"
    with pytest.raises(UserError, match=f"encoder.keras: weights of another network. {kernel}"):
        build_encoder("vgg16bn", 1 / 16, str(path))
    missing = r"block1_conv1/kernel: no such variable in the file, \(3, 3, 3, 64\) here"
    with pytest.raises(UserError, match=missing):
        build_encoder("vgg16", 1.0, str(path))
    encoder = Backbone(small())
    small(blocks=6).save(path)  # what lies behind P5 does not matter
    backbones._copy_weights(path, encoder)
    small(blocks=4).save(path)
    with pytest.raises(
        UserError, match=r"conv5/kernel: no such variable in the file, \(3, 3, 5, 6"
    ):
        backbones._copy_weights(path, encoder)


def test_files_that_are_no_model_and_files_that_run(tmp_path):
    with pytest.raises(UserError, match=r"--encoder-weights .*none.keras: not a Keras model \(Fil"):
        build_encoder("vgg16bn", 1 / 32, str(tmp_path / "none.keras"))
    path = tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((32, 32, 1)), layers.Lambda(lambda x: 1 / 0)]).save(path)
    with pytest.raises(UserError, match=r"lambda.keras: not a Keras model \(.*code execution"):
        build_encoder("vgg16bn", 1 / 32, str(path))


def test_imagenet(monkeypatch):
    with pytest.raises(
        UserError, match=r"vgg16bn has no ImageNet weights\. Choose --backbone vgg16, or"
    ):
        build_encoder("vgg16bn", weights="imagenet")

    def fail(**like):
        assert like.pop("weights") == "imagenet"
        raise Exception("URL fetch failure")

    fail.__name__ = "ResNet50"
    monkeypatch.setitem(APPLICATIONS, "resnet50", (fail, "caffe"))
    remedy = r'\.ResNet50\(include_top=False\)\.save\("resnet50\.keras"\); here, give --encoder'
    with pytest.raises(
        UserError, match=rf"failed \(URL fetch failure\).*{remedy}-weights resnet50.keras"
    ):
        build_encoder("resnet50", weights="imagenet")
