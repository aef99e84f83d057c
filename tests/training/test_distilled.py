"""Pretraining by a teacher: the same bits after a resume, no tags asked for, and what is told."""

import json
import re

import numpy as np
import pytest

from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import load_encoder
from tf_dicom_ce.preprocessing import standardise
from tf_dicom_ce.training.pretrain import pretrain

SETTINGS = {"width": 1 / 32, "batch_size": 4, "deterministic": True, "export": None}
IMAGES = np.random.default_rng(0).integers(0, 256, (15, 32, 64), np.uint8)


@pytest.fixture(scope="module")
def data():
    return UltrasoundDataset.from_arrays(IMAGES, patients=[k // 3 for k in range(15)])


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly")  # of tf.data
def test_resumed_to_the_same_bits(data, exported, tmp_path, capsys):
    """The teacher is an exported encoder; its statistics are those of the training images."""
    own = {**SETTINGS, "teacher": str(exported[1])}
    whole = pretrain(data, "quick", epochs=2, run=tmp_path / "whole", **own)
    pretrain(data, "quick", epochs=1, run=tmp_path / "parts", **own)
    parts = pretrain(data, "quick", epochs=2, run=tmp_path / "parts", resume=True, **own)
    assert parts.validation == whole.validation
    for a, b in zip(parts.encoder.weights, whole.encoder.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert re.search(
        r"validation L_teacher \d\.\d+ \(knowing nothing: 1\)", capsys.readouterr().out
    )
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["teacher"] == "1"

    (checkpoint,) = (tmp_path / "whole" / "checkpoints").glob("*-000000006.npz")
    rows = data.split(seed=0)[0].rows
    taught = load_encoder(exported[1])(standardise(IMAGES[rows, ..., None]))
    with np.load(checkpoint) as file:
        for k in ("P2", "P3", "P4", "P5"):
            mean, sd = (file[f"variables/distiller/{name}_{k}"] for name in ("mean", "sd"))
            np.testing.assert_allclose(mean, taught[k].numpy().mean((0, 1, 2)), atol=1e-5)
            np.testing.assert_allclose(sd, taught[k].numpy().std((0, 1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"teacher": "nowhere"}, "--teacher nowhere: neither imagenet nor an exported encoder"),
        ({"teacher": "imagenet", "lambda_tags": 1.0}, "leave out --lambda-tags"),
        ({"teacher": "imagenet", "shuffle_tags": True}, "tags, which --teacher leaves out"),
    ],
)
def test_mistakes(data, tmp_path, wrong, words):
    with pytest.raises(UserError, match=words):
        pretrain(data, "quick", run=tmp_path / "run", **SETTINGS, **wrong)


def test_a_teacher_of_another_size(exported, tmp_path):
    other = UltrasoundDataset.from_arrays(IMAGES[:, :, :32], patients=[k // 3 for k in range(15)])
    with pytest.raises(UserError, match=r"exported for images of 32 × 64\. Give its encoder"):
        pretrain(other, "quick", run=tmp_path / "run", teacher=str(exported[1]), **SETTINGS)
