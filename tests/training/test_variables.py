"""Paths of variables name one each, and stay what they are whatever a process built before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.config import FinetuneConfig, PretrainConfig
from tf_dicom_ce.models.backbones import load_encoder
from tf_dicom_ce.models.heads import Dropout
from tf_dicom_ce.training.checkpoints import Checkpoints, by_path, state_variables
from tf_dicom_ce.training.finetune import fit_head
from tf_dicom_ce.training.loop import Data, Schedule
from tf_dicom_ce.training.networks import build_head, build_pretraining

SIZE = (32, 64)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "float16", "lambda_tags": 1.0, "spectral_norm": True},
        {"conditioning": "auxiliary"},
    ],
)
def test_of_pretraining(settings):
    config = PretrainConfig(image_size=SIZE, width=1 / 32, batch_size=4, **settings)
    found = []
    for _ in range(2):
        found.append(state_variables(build_pretraining(config, 3)))
    assert found[0].keys() == found[1].keys()
    assert {"g_adam/iteration", "d_adam/iteration", "joint/total"} < found[0].keys()
    assert len({id(variable) for variable in found[0].values()}) == len(found[0])


@pytest.mark.parametrize(
    ("task", "form", "path"),
    [
        ("segmentation", None, "unet/encoder/block1/conv1/conv/kernel"),
        ("segmentation", ".", "encoder_block1_conv1_conv_kernel_0"),
        ("classification", "encoder.keras", "dropout/seed_generator_state"),
    ],
)
def test_of_heads(exported, tmp_path, eagerly, task, form, path):
    config = FinetuneConfig(task=task, image_size=SIZE, width=1 / 32)
    shape = SIZE if task == "segmentation" else ()
    batches = tf.data.Dataset.from_tensors((np.zeros((2, *SIZE, 1)), np.zeros((2, *shape), int)))
    data = Data(lambda first, parts: batches.repeat(), batches, None)

    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        encoder = load_encoder(exported[1] / form) if form else None
        head = build_head(config, encoder, 3)
        fit_head(config, head, data, Schedule(1, 1), [], folder, tf.distribute.get_strategy())
        found.append(Checkpoints(folder / "checkpoints").latest())
    assert found[0].variables.keys() == found[1].variables.keys()
    assert found[0].best.keys() == found[1].best.keys()
    assert {path, "adam/iteration", "loss/total"} < found[0].variables.keys()


def test_two_of_one_path_are_not_taken_for_one():
    a, b = (keras.Variable(np.zeros(3), name="kernel") for _ in range(2))
    assert by_path([a, a]) == {"kernel": a}
    with pytest.raises(ValueError, match="Two variables have the path kernel"):
        by_path([a, b])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    model.g_optimizer, model.d_optimizer = (keras.optimizers.Adam(name="adam") for _ in range(2))
    with pytest.raises(ValueError, match="Two variables have the path adam/"):
        state_variables(model)


def test_dropout_is_that_of_keras():
    """The same values for the same seed, and none in inference."""
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    answers = []
    for make in (Dropout, keras.layers.Dropout):
        keras.utils.set_random_seed(0)
        layer = make(0.4, name="dropout")
        answers.append([layer(x, training=True).numpy() for _ in range(2)])
        np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(*answers)
    assert not np.array_equal(*answers[0])
