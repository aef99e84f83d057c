"""A head's answers are those that NumPy gives by hand."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.prediction.batch import Head


def test_masks_are_as_large_as_their_images(heads):
    """The head's liver has σ(z) of the z-score z; the edge lies where its interpolation is ½."""
    head = Head(heads / "segmentation")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((32, 64), (75, 131), (20, 200))]
    answers = head.answer(images)
    assert len(answers) == 3
    for image, answer in zip(images, answers, strict=True):
        assert set(answer) == {"mask"}
        assert (answer["mask"].dtype, answer["mask"].shape) == (np.uint8, image.shape)
        seen = tf.image.resize(image[..., None], (32, 64), antialias=True).numpy().round()
        liver = 1 / (1 + np.exp(-(seen - seen.mean()) / seen.std()))
        liver = tf.image.resize(liver, image.shape, antialias=True).numpy()[..., 0]
        sure = abs(liver - 0.5) > 1e-4
        assert sure.mean() > 0.99
        assert 0.3 < (liver > 0.5).mean() < 0.7
        np.testing.assert_array_equal(answer["mask"][sure], (liver > 0.5)[sure])


def test_classes_and_probabilities(heads):
    head = Head(heads / "classification")
    image = np.zeros((32, 64), np.uint8)
    image[:, 32:] = 100
    right, left = head.answer([image, image[:, ::-1]])
    # z-scores are -1 and 1, so the logits -1 and 1.
    expected = 1 / (1 + np.exp(-2.0))
    assert (right["class_id"], left["class_id"]) == (1, 0)
    np.testing.assert_allclose(right["probabilities"], [1 - expected, expected], atol=1e-6)
    np.testing.assert_allclose(left["probabilities"], [expected, 1 - expected], atol=1e-6)


def test_the_newest_version_by_number(heads, tmp_path):
    for version in ("2", "10", ".7.part"):
        shutil.copytree(heads / "segmentation" / "1", tmp_path / "organs" / version)
    model = Head(tmp_path / "organs").model
    assert (model.name, model.version, model.task) == ("organs", "10", "segmentation")
    assert model.classes == ("background", "liver")
    assert (model.fingerprint, model.synthetic) == ("f" * 64, True)
    assert Head(tmp_path / "organs" / "2").model.version == "2"


def test_a_head_is_known_by_its_weights(heads, tmp_path):
    """Other weights than the JSON tells of are refused; an older export says nothing of them."""
    folder = shutil.copytree(heads / "classification" / "1", tmp_path / "view" / "3")
    file = folder / "classification.json"
    content = json.loads(file.read_text())
    digest = Head(folder).model.weights_digest
    assert digest == content.pop("weights_digest")
    assert digest != Head(heads / "segmentation").model.weights_digest
    file.write_text(json.dumps(content))
    assert Head(folder).model.weights_digest == digest
    file.write_text(json.dumps(content | {"weights_digest": "0" * 64}))
    words = rf"view/3: the weights are not .* digest is {digest[:12]}…, and it says 000000000000…"
    with pytest.raises(UserError, match=words):
        Head(tmp_path / "view")


def test_no_head_and_a_broken_one(heads, tmp_path):
    with pytest.raises(UserError, match="no exported head here"):
        Head(tmp_path)
    with pytest.raises(UserError, match="no exported head here"):
        Head(tmp_path / "none")
    folder = tmp_path / "segmentation" / "1"
    shutil.copytree(heads / "segmentation" / "1", folder)
    content = json.loads((folder / "segmentation.json").read_text())
    (folder / "saved_model.pb").write_bytes(b"\x00broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        Head(folder)
    del content["classes"]
    (folder / "segmentation.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"cannot be loaded \(KeyError\)"):
        Head(folder)
    (folder / "segmentation.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        Head(folder)
