"""Panels and the projector's files, on stubs whose answers are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig

from tf_dicom_ce.training.panels import inpainting_panel, sensitivity_panel
from tf_dicom_ce.training.tensorboard import encoder_features, label_names, write_projector

TAGS = {"study": ("liver", "kidney"), "probe": ("linear",)}


def test_the_inpainting_panel_shows_hole_prediction_and_truth():
    images = np.full((1, 32, 32, 1), 2.5, np.float32)  # white

    def paints_black(x):
        x = x.copy()
        x[:, 8:24, 8:24] = -2.5
        return x

    panel = inpainting_panel(paints_black, images)
    zoom = 192 // 32
    columns = [panel[16:, k * (192 + 4) : k * (192 + 4) + 192, 0] for k in range(3)]
    centres = [int(column[16 * zoom, 16 * zoom]) for column in columns]
    assert centres == [128, 0, 255]  # the mean is mid-gray (127.5 rounds to even)
    assert all((column[zoom, zoom] == 255).all() for column in columns)


def judge(weights):
    """A model whose D is sure of the truth by +9, and adds a number for each label."""

    def discriminator(x, y):
        sign = tf.sign(tf.reduce_mean(tf.convert_to_tensor(x), axis=(1, 2, 3)))
        return {"logit": 9 * sign + tf.linalg.matvec(y, tf.constant(weights))}

    return SimpleNamespace(
        paint=lambda x: -tf.ones((len(x), 16, 16, 1)),
        seen_by_d=lambda x, patch: patch,
        discriminator=discriminator,
    )


def cell(panel, row, column, line=0):
    """Colour of a free corner of a cell."""
    left, top = 192 + 64 + column * 72 + 66, line * 84 + 16 + row * 30 + 3
    return tuple(int(v) for v in panel[top, left])


def test_the_sensitivity_panel_colours_each_label_of_both_patches():
    images = np.ones((2, 32, 32, 1), np.float32)
    y = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    panel = sensitivity_panel(judge([0.0, -9.0, -18.0]), images, y, TAGS)
    blue, orange, even = (90, 140, 255), (255, 150, 50), (240, 240, 240)
    assert panel.dtype == np.uint8
    truth = [cell(panel, 0, k) for k in range(4)]  # no tag, liver, kidney, linear
    assert truth == [orange, orange, even, blue]
    assert [cell(panel, 1, k) for k in range(4)] == [blue] * 4
    height = len(panel) // 2
    yellow = lambda block: [  # noqa: E731
        k for k in range(4) if tuple(block[0, 192 + 64 + k * 72 + 30]) == (255, 255, 90)
    ]
    assert yellow(panel[:height]) == [1]
    assert yellow(panel[height:]) == [2, 3]


def test_many_labels_go_on_in_a_next_line():
    tags = {"study": [f"label {k}" for k in range(14)]}
    images = np.ones((1, 32, 32, 1), np.float32)
    weights = [0.0] * 13 + [-18.0]
    panel = sensitivity_panel(judge(weights), images, np.zeros((1, 14), np.float32), tags)
    assert cell(panel, 0, 1, line=1) == (255, 150, 50)
    assert cell(panel, 0, 2, line=1) == (90, 140, 255)


def test_features_are_the_mean_of_p5_and_thumbnails_are_gray():
    x = np.random.default_rng(0).normal(size=(5, 64, 96, 1)).astype(np.float32)
    encoder = lambda x, training: {"P5": tf.concat([x, 2 * x], axis=-1)}  # noqa: E731
    batches = tf.data.Dataset.from_tensor_slices((x, np.zeros(5))).batch(3)
    features, thumbnails = encoder_features(encoder, batches)
    mean = x.mean(axis=(1, 2))
    np.testing.assert_allclose(features, np.concatenate([mean, 2 * mean], axis=1), atol=1e-6)
    assert thumbnails.shape == (5, 32, 48)
    assert thumbnails.dtype == np.uint8


def test_names_of_labels():
    y = np.array([[1, 1, 0], [0, 0, 1]], np.float32)
    assert label_names(y, TAGS) == {"study": ["liver, kidney", "-"], "probe": ["-", "linear"]}


def test_the_projector_can_read_what_is_written(tmp_path):
    features = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    thumbnails = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 6), np.uint8)
    names = {"study": ["liver"] * 5, "probe": ["-"] * 5}
    write_projector(tmp_path, features, range(10, 15), names, thumbnails)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert list(embedding.tensor_shape) == [5, 7]
    assert list(embedding.sprite.single_image_dim) == [6, 4]
    read = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(read, features, rtol=1e-5)
    lines = (tmp_path / embedding.metadata_path).read_text().splitlines()
    assert lines[0] == "row\tstudy\tprobe"
    assert lines[5] == "14\tliver\t-"
    sprite = np.asarray(Image.open(tmp_path / embedding.sprite.image_path))
    assert sprite.shape == (3 * 4, 3 * 6)
    assert [int(sprite[4 * (k // 3), 6 * (k % 3)]) for k in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="zip"):
        write_projector(tmp_path, features, range(5), {"study": ["liver"]}, thumbnails)
