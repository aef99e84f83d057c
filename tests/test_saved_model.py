"""The exported encoder: same features from bytes, tensor and training; versions; endpoints."""

import hashlib
import io
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import describe_encoder, load_encoder
from tf_dicom_ce.models.encoder import SCALES, VGG16Encoder
from tf_dicom_ce.preprocessing import resize, standardise
from tf_dicom_ce.saved_model.card import model_card
from tf_dicom_ce.saved_model.reading import digest_of, read_encoder, weights_digest
from tf_dicom_ce.training.networks import build_head

SIZE = (32, 64)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((50, 70), (32, 64), (20, 31))]


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def in_graph(exported):
    """As training and evaluation run it: TensorFlow fuses ops, which changes last digits."""
    x = tf.TensorSpec((None, *SIZE, 1), tf.float32)
    return tf.function(lambda x: exported[0](x, training=False), [x], autograph=False)


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported[1]))
    yield loaded.signatures


def test_bytes_tensor_and_training_agree_bit_for_bit(in_graph, signatures, images):
    from_bytes = signatures["serving_default"](image_bytes=tf.constant([png(i) for i in images]))
    assert sorted(from_bytes) == list(SCALES)
    for k, image in enumerate(images):
        from_tensor = signatures["serving_image"](
            image=tf.constant(image[None, ..., None], tf.float32)
        )
        in_training = in_graph(standardise(resize(image[None, ..., None], SIZE)))
        for scale in SCALES:
            np.testing.assert_array_equal(from_tensor[scale][0], in_training[scale][0])
            np.testing.assert_allclose(from_bytes[scale][k], in_training[scale][0], atol=1e-6)


def test_serve_and_train_endpoints(exported, in_graph):
    loaded = tf.saved_model.load(str(exported[1]))
    x = tf.constant(np.random.default_rng(1).normal(size=(4, *SIZE, 1)), tf.float32)
    np.testing.assert_array_equal(loaded.serve(x)["P5"], in_graph(x)["P5"])
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


def fitted_on_stock_layer(folder, optimizer_first, **endpoints):
    """Keras' own layer on the export, after an epoch of Adam; its weights before."""
    layer = keras.layers.TFSMLayer(str(folder), call_endpoint="serve", **endpoints)
    image = keras.Input((*SIZE, 1))
    scales = layer(image)
    pooled = keras.layers.GlobalAveragePooling2D()(scales["P5"])
    model = keras.Model(image, keras.layers.Dense(1)(pooled))
    model.compile("adam", "mse", jit_compile=False)
    if optimizer_first:
        model.optimizer.build(model.trainable_variables)
    x, before = np.random.default_rng(1).normal(size=(4, *SIZE, 1)), layer.get_weights()
    model.fit(x, np.ones(4), verbose=0)
    return layer, scales, before


def test_keras_own_layer(exported, in_graph):
    """As export/README.md has it: by name, frozen without `train`, tuned once Adam is built."""
    folder = exported[1]
    layer, scales, before = fitted_on_stock_layer(folder, False, trainable=False)
    assert sorted(scales) == list(SCALES)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = np.random.default_rng(2).normal(size=(2, *SIZE, 1)).astype(np.float32)
    for scale, expected in in_graph(x).items():
        np.testing.assert_allclose(layer(x)[scale], expected, rtol=1e-5, atol=1e-6)
    layer, _, before = fitted_on_stock_layer(folder, True, call_training_endpoint="train")
    assert not any(map(np.array_equal, before, layer.get_weights()))
    with pytest.raises(ValueError, match="not a valid scope name"):
        fitted_on_stock_layer(folder, False, call_training_endpoint="train")


@pytest.fixture(scope="module")
def versions(exported, tmp_path_factory):
    """Folders of exports of the same weights and of others, beside versions 1 and 9.

    Of an encoder that was built for images of any size, whose name is `ours`.
    """
    models = tmp_path_factory.mktemp("versions") / "ours"
    shutil.copytree(exported[1], models / "1")
    (models / "9").mkdir()
    encoder = VGG16Encoder(1 / 32)
    encoder.build((None, None, None, 1))
    encoder.set_weights(exported[0].get_weights())
    same = encoder.export(models, SIZE, {"seed": 3})
    norms = [encoder.blocks[4].convolutions[k].norm.moving_mean for k in (0, 1)]
    first, second = (norm.numpy() for norm in norms)
    assert first.shape == second.shape
    norms[0].assign(second)
    norms[1].assign(first)  # the same arrays, two of them swapped
    return same, encoder.export(models, SIZE)


def test_an_export_of_any_name_and_size(exported, versions, tmp_path):
    encoder = VGG16Encoder(1 / 32)
    encoder.build((None, None, None, 1))
    with pytest.raises(UserError, match=r"export of encoder: .* image_size=\(height, width\)"):
        encoder.export(tmp_path / "ours")
    folder = versions[0]
    said, expected = (json.loads((at / "encoder.json").read_text()) for at in (folder, exported[1]))
    assert said == {**expected, "seed": 3}
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Which network it is and how it was trained are not recorded." in card


def test_keras_file_is_the_same_encoder(exported):
    encoder, folder = exported
    x = np.random.default_rng(1).normal(size=(1, *SIZE, 1)).astype(np.float32)
    loaded = keras.saving.load_model(folder / "encoder.keras")
    np.testing.assert_array_equal(loaded(x)["P5"], encoder(x)["P5"])


def test_json_beside_it(exported):
    content = json.loads((exported[1] / "encoder.json").read_text())
    digest = content.pop("weights_digest")
    assert content == {"image_size": [32, 64], "width": 1 / 32}
    assert digest == by_hand(exported[0])


def by_hand(encoder):
    """The digest from the weights in memory, after its definition."""
    content = b""
    for k, value in enumerate(encoder.get_weights()):
        shape = "x".join(str(side) for side in value.shape)
        content += f"{k} float32 {shape}\n".encode() + value.astype("<f4").tobytes()
    return hashlib.sha256(content).hexdigest()


def test_the_digest_of_two_small_arrays_by_hand():
    content = b"0 float32 2x1\n\x00\x00\x80\x3f\x00\x00\x00\xc0" + b"1 uint8 \n\x07"
    values = [np.array([[1.0], [-2.0]], np.float32), np.array(7, np.uint8)]
    assert digest_of(values) == hashlib.sha256(content).hexdigest()
    big_endian = [values[0].astype(">f4"), values[1]]
    assert digest_of(big_endian) == digest_of(values)
    column_by_column = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert digest_of([column_by_column]) == digest_of([column_by_column.copy("C")])
    assert digest_of([column_by_column]) != digest_of([column_by_column.reshape(3, 2)])


def test_the_digest_is_that_of_the_weights_and_of_nothing_else(exported, versions, tmp_path):
    """Not of a copy's folder, nor of what was built before; of every weight, and its place."""
    digest = weights_digest(shutil.copytree(exported[1], tmp_path / "copy"))
    assert digest == by_hand(exported[0])
    same, other = map(weights_digest, versions)
    assert same == digest
    assert other != digest


@pytest.mark.parametrize("copies", [True, False])
def test_the_digest_is_of_what_the_signatures_read(exported, tmp_path, copies):
    """The checkpoint holds every variable twice; one of the two changes no answer and no digest."""
    folder = shutil.copytree(exported[1], tmp_path / "1")
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    for name, value in values.items():
        if name.startswith("_all_variables/" if copies else "variables/"):
            values[name] = value + 1
    assert len(values) == 2 * len(exported[0].weights) + 1  # and the graph of objects
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (1, 50, 70, 1)), tf.float32)
    answers = [
        tf.saved_model.load(str(f)).signatures["serving_image"](image=image)["P5"].numpy()
        for f in (exported[1], folder)
    ]
    assert np.array_equal(*answers) == copies
    assert (weights_digest(folder) == by_hand(exported[0])) == copies


SCRIPT = """
import sys
from pathlib import Path
from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
load_tensorflow()
import keras
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.models.backbones import load_encoder
from tf_dicom_ce.saved_model.reading import weights_digest
from tf_dicom_ce.training.networks import build_head
from tf_dicom_ce.config import FinetuneConfig

config = FinetuneConfig(task="classification", image_size=(32, 64), width=1 / 32)
keras.utils.set_random_seed(1)
for layer in (load_encoder(sys.argv[1]), VGG16Encoder(1 / 32)):
    print(weights_digest(build_head(config, layer, 3).export(Path(sys.argv[2]) / "view")))
"""


@pytest.mark.slow
def test_heads_of_the_same_weights_have_the_same_digest_from_any_process(exported, tmp_path):
    """From one in which nothing else was built, those of the weights that this one makes."""
    command = [sys.executable, "-c", SCRIPT, str(exported[1]), str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    config = FinetuneConfig(task="classification", image_size=SIZE, width=1 / 32)
    keras.utils.set_random_seed(1)
    heads = [
        build_head(config, layer, 3) for layer in (load_encoder(exported[1]), VGG16Encoder(1 / 32))
    ]
    found = [digest_of(v.numpy() for v in head.variables) for head in heads]
    assert len(set(found)) == 2
    assert said == found


@pytest.fixture
def spoilt(exported, versions, tmp_path):
    """A copy of the encoder whose weights are those of another one; the JSON is as it was."""
    folder = shutil.copytree(exported[1], tmp_path / "encoder" / "1")
    other = shutil.copytree(versions[1], tmp_path / "other")
    for name in ("variables", "encoder.keras"):
        (folder / name).rename(folder / f"old {name}")
        (other / name).rename(folder / name)
    return folder


@pytest.mark.parametrize("form", [".", "encoder.keras"])
def test_other_weights_than_the_json_tells_of_are_refused(exported, spoilt, form):
    ours, theirs = by_hand(exported[0]), weights_digest(spoilt)
    assert theirs != ours
    with pytest.raises(UserError) as refused:
        describe_encoder(spoilt / form)
    for word in (str(spoilt / form), theirs[:12], ours[:12], "Copy the whole folder again"):
        assert word in str(refused.value)


@pytest.mark.parametrize("form", [".", "encoder.keras"])
def test_a_head_learns_the_digest_of_its_encoder_even_of_an_older_export(exported, tmp_path, form):
    folder = shutil.copytree(exported[1], tmp_path / "1")
    file = folder / "encoder.json"
    content = json.loads(file.read_text())
    assert describe_encoder(folder / form) == content
    digest = content.pop("weights_digest")
    file.write_text(json.dumps(content))
    assert describe_encoder(folder / form) == {**content, "weights_digest": digest}


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_weights_that_cannot_be_read_are_named(exported, tmp_path, damage):
    folder = shutil.copytree(exported[1], tmp_path / "1")
    (data,) = (folder / "variables").glob("variables.data*")
    content = bytearray(data.read_bytes())
    if damage == "missing":
        shutil.rmtree(folder / "variables")
    elif damage == "cut":
        data.write_bytes(content[: len(content) // 2])
    else:
        kernel = exported[0].blocks[4].convolutions[2].conv.kernel.numpy()
        content[content.index(kernel.tobytes()) + 7] ^= 1
        data.write_bytes(content)
    with pytest.raises(UserError, match=r"1/variables: cannot be read .*Copy the whole folder"):
        read_encoder(folder)


def test_a_card_and_golden_inputs_beside_it(exported):
    folder = exported[1]
    assert (folder / "MODEL_CARD.md").read_text() == model_card(
        "encoder", json.loads((folder / "encoder.json").read_text())
    )
    assert {path.name for path in folder.iterdir()} == {
        *("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"),
        *("encoder.json", "encoder.keras", "MODEL_CARD.md"),
    }


def test_versions_count_up_and_nothing_is_overwritten(exported, versions):
    models = versions[0].parent
    assert [folder.name for folder in versions] == ["10", "11"]
    before, after = ((at / "encoder.json").read_bytes() for at in (exported[1], models / "1"))
    assert before == after
    assert sorted(p.name for p in models.iterdir()) == ["1", "10", "11", "9"]


def test_junk_bytes_are_an_invalid_argument(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a PNG or a JPEG"):
        signatures["serving_default"](image_bytes=tf.constant([b"junk"]))
