"""The exported encoder: same features from bytes, tensor and training; versions; endpoints."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.data.preprocessing import resize, standardise
from tf_dicom_ce.models.encoder import SCALES, VGG16Encoder
from tf_dicom_ce.saved_model import write_encoder
from tf_dicom_ce.saved_model.card import model_card

SIZE = (32, 64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(0)
    encoder = VGG16Encoder(1 / 32)
    encoder.build((None, *SIZE, 1))
    encoder(np.random.default_rng(9).normal(size=(8, *SIZE, 1)), training=True)  # move BatchNorm
    root = tmp_path_factory.mktemp("export")
    return encoder, write_encoder(encoder, root, SIZE, {"seed": 3})


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((50, 70), (32, 64), (20, 31))]


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def in_graph(encoder):
    """As training and evaluation run it: TensorFlow fuses ops, which changes last digits."""
    return tf.function(lambda x: encoder(x, training=False), autograph=False)


def test_bytes_tensor_and_training_agree_bit_for_bit(exported, images):
    encoder, folder = exported
    compiled = in_graph(encoder)
    signatures = tf.saved_model.load(str(folder)).signatures
    from_bytes = signatures["serving_default"](image_bytes=tf.constant([png(i) for i in images]))
    assert sorted(from_bytes) == list(SCALES)
    for k, image in enumerate(images):
        from_tensor = signatures["serving_image"](
            image=tf.constant(image[None, ..., None], tf.float32)
        )
        in_training = compiled(standardise(resize(image[None, ..., None], SIZE)))
        for scale in SCALES:
            np.testing.assert_array_equal(from_tensor[scale][0], in_training[scale][0])
            np.testing.assert_allclose(from_bytes[scale][k], in_training[scale][0], atol=1e-6)


def test_serve_and_train_endpoints(exported):
    encoder, folder = exported
    loaded = tf.saved_model.load(str(folder))
    x = tf.constant(np.random.default_rng(1).normal(size=(4, *SIZE, 1)), tf.float32)
    np.testing.assert_array_equal(loaded.serve(x)["P5"], in_graph(encoder)(x)["P5"])
    moving = [v.numpy() for v in loaded.variables if "moving_mean" in v.name]
    loaded.serve(x)
    for before, v in zip(
        moving, [v for v in loaded.variables if "moving_mean" in v.name], strict=True
    ):
        np.testing.assert_array_equal(before, v)
    in_training = loaded.train(x)["P5"]
    assert not np.allclose(in_training, loaded.serve(x)["P5"])
    after = [v.numpy() for v in loaded.variables if "moving_mean" in v.name]
    assert len(after) == 13
    assert all(not np.array_equal(a, b) for a, b in zip(moving, after, strict=True))


def test_keras_file_is_the_same_encoder(exported):
    encoder, folder = exported
    x = np.random.default_rng(1).normal(size=(1, *SIZE, 1)).astype(np.float32)
    loaded = keras.saving.load_model(folder / "encoder.keras")
    np.testing.assert_array_equal(loaded(x)["P5"], encoder(x)["P5"])


def test_json_beside_it(exported):
    content = json.loads((exported[1] / "encoder.json").read_text())
    assert content == {"image_size": [32, 64], "width": 1 / 32, "seed": 3}


def test_a_card_and_golden_inputs_beside_it(exported):
    folder = exported[1]
    assert (folder / "MODEL_CARD.md").read_text() == model_card(
        "encoder", json.loads((folder / "encoder.json").read_text())
    )
    assert {path.name for path in folder.iterdir()} == {
        *("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"),
        *("encoder.json", "encoder.keras", "MODEL_CARD.md"),
    }


def test_versions_count_up_and_nothing_is_overwritten(exported):
    encoder, folder = exported
    before = (folder / "encoder.json").read_bytes()
    (folder.parent / "9").mkdir()
    assert folder.name == "1"
    assert write_encoder(encoder, folder.parents[1], SIZE, {}).name == "10"
    assert (folder / "encoder.json").read_bytes() == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["1", "10", "9"]


def test_junk_bytes_are_an_invalid_argument(exported):
    serve = tf.saved_model.load(str(exported[1])).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="a PNG or a JPEG"):
        serve(image_bytes=tf.constant([b"junk"]))
