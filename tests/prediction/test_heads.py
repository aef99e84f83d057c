"""A head's answers are those that NumPy gives by hand."""

import json
import shutil

import numpy as np
import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.prediction.heads import open_head


def blocks(height, width, seed):
    """A picture of 8 × 8 blocks, black or white, at least one of each."""
    rng = np.random.default_rng(seed)
    small = (rng.random((8, 8)) < 0.3).astype(np.uint8) * 200
    small[0, 0], small[7, 7] = 0, 200
    return small.repeat(height // 8, axis=0).repeat(width // 8, axis=1)


def test_masks_of_images_of_mixed_sizes(heads):
    head = open_head(heads / "segmentation")
    images = [blocks(32, 64, 1), blocks(64, 128, 2), blocks(32, 64, 3)]
    answers = head.answer(images)
    assert len(answers) == 3
    for image, answer in zip(images, answers, strict=True):
        assert (answer["mask"].dtype, answer["mask"].shape) == (np.uint8, (32, 64))
        # White lies above the mean of any image with both.
        centres = image[image.shape[0] // 64 :: image.shape[0] // 32]
        centres = centres[:, image.shape[1] // 128 :: image.shape[1] // 64]
        inner = np.zeros((8, 4, 8, 8), bool)
        inner[:, 1:3, :, 1:7] = True  # away from edges that resizing smears
        inner = inner.reshape(32, 64)
        np.testing.assert_array_equal(answer["mask"][inner], (centres > 0)[inner])


def test_classes_and_probabilities(heads):
    head = open_head(heads / "classification")
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
    model = open_head(tmp_path / "organs").model
    assert (model.name, model.version, model.task) == ("organs", "10", "segmentation")
    assert model.classes == ("background", "liver")
    assert (model.fingerprint, model.synthetic) == ("f" * 64, True)
    assert open_head(tmp_path / "organs" / "2").model.version == "2"


def test_a_head_is_known_by_its_weights(heads, tmp_path):
    """Other weights than the JSON tells of are refused; an older export says nothing of them."""
    folder = shutil.copytree(heads / "classification" / "1", tmp_path / "view" / "3")
    file = folder / "classification.json"
    content = json.loads(file.read_text())
    digest = open_head(folder).model.weights_digest
    assert digest == content.pop("weights_digest")
    assert digest != open_head(heads / "segmentation").model.weights_digest
    file.write_text(json.dumps(content))
    assert open_head(folder).model.weights_digest == digest
    file.write_text(json.dumps(content | {"weights_digest": "0" * 64}))
    words = rf"view/3: the weights are not .* digest is {digest[:12]}…, and it says 000000000000…"
    with pytest.raises(UserError, match=words):
        open_head(tmp_path / "view")


def test_no_head_and_a_broken_one(heads, tmp_path):
    with pytest.raises(UserError, match="no exported head here"):
        open_head(tmp_path)
    with pytest.raises(UserError, match="no exported head here"):
        open_head(tmp_path / "none")
    folder = tmp_path / "segmentation" / "1"
    shutil.copytree(heads / "segmentation" / "1", folder)
    content = json.loads((folder / "segmentation.json").read_text())
    (folder / "saved_model.pb").write_bytes(b"\x00broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        open_head(folder)
    del content["classes"]
    (folder / "segmentation.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"cannot be loaded \(KeyError\)"):
        open_head(folder)
    (folder / "segmentation.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        open_head(folder)
