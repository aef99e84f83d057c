"""Golden inputs: the same model passes, another does not, and what is damaged is named."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.saved_model.golden import (
    FILE,
    difference,
    golden_images,
    replay,
    sample,
    selftest,
)


@pytest.fixture(scope="module")
def root(exported, repository_folder, tmp_path_factory):
    root = shutil.copytree(repository_folder, tmp_path_factory.mktemp("export") / "models")
    shutil.copytree(exported[1], root / "encoder" / "1")
    return root


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "copy")


def test_every_model_answers_as_at_export(root):
    outcomes = selftest(root)
    names = ["classification", "encoder", "segmentation"]
    assert [(outcome.model, outcome.version) for outcome in outcomes] == [(n, 1) for n in names]
    for outcome in outcomes:
        assert outcome.difference == pytest.approx(0, abs=1e-4)
        assert not outcome.failed
        assert outcome.note == "as at export"


def test_both_signatures_give_the_same_golden_answers(root):
    """PNG and JPEG bytes against the pixels that they hold, for images of three sizes."""
    cases = json.loads((root / "segmentation" / "1" / FILE).read_text())
    assert [case["signature"] for case in cases] == ["serving_default", "serving_image"] * 3
    shapes = [np.shape(case["inputs"]["image"]) for case in cases[1::2]]
    assert shapes == [(1, 48, 64, 1), (1, 40, 72, 1), (1, 64, 56, 1)]
    for from_bytes, from_pixels in zip(cases[::2], cases[1::2], strict=True):
        assert set(from_bytes["answers"]) == {"mask", "probabilities"}
        for name, samples in from_bytes["answers"].items():
            assert len(samples) == 257
            assert difference(samples, from_pixels["answers"][name]) < 1e-4


def test_another_model_in_its_place_is_found(copy, second_classifier):
    """Other weights behind the same signatures."""
    version = shutil.copytree(second_classifier, copy / "classification" / "2")
    shutil.copy(copy / "classification" / "1" / FILE, version / FILE)
    outcomes = {(o.model, o.version): o for o in selftest(copy)}
    assert not outcomes["classification", 1].failed
    assert outcomes["classification", 2].failed
    assert "differ" in outcomes["classification", 2].note


def test_damaged_and_old_exports(copy):
    (copy / "classification" / "1" / "saved_model.pb").write_bytes(b"junk")
    (copy / "segmentation" / "1" / FILE).unlink()
    classification, encoder, segmentation = selftest(copy)
    assert classification.failed
    assert classification.difference == float("inf")
    assert "cannot answer" in classification.note
    assert not encoder.failed
    assert not segmentation.failed
    assert segmentation.difference is None
    assert "without golden inputs" in segmentation.note


def test_a_folder_without_models(tmp_path):
    (tmp_path / "segmentation" / ".1.part").mkdir(parents=True)
    (tmp_path / "segmentation" / ".1.part" / "saved_model.pb").write_text("")
    with pytest.raises(UserError, match="no model here"):
        selftest(tmp_path)


def test_an_answer_that_is_gone_is_a_difference(copy):
    folder = copy / "classification" / "1"
    cases = json.loads((folder / FILE).read_text())
    cases[0]["answers"]["another"] = [1.0]
    (folder / FILE).write_text(json.dumps(cases))
    assert replay(folder) == float("inf")


def test_samples():
    assert sample(np.arange(6, dtype=np.uint8).reshape(2, 3)) == [0, 1, 2, 3, 4, 5]
    spread = sample(np.arange(1000, dtype=np.int32))
    assert (len(spread), spread[0], spread[1], spread[-1]) == (257, 0, 3, 996)  # 256 · 1000 / 257
    assert sample(np.arange(1000), 4) == [0, 250, 500, 750]
    (third,) = sample(np.float32([1 / 3]))
    assert len(str(third)) <= 11
    assert np.float32(third) == np.float32(1 / 3)


@pytest.mark.parametrize("shape", [(1, 64, 96, 3), (1, 256, 384, 3), (1, 8, 12, 64)])
def test_samples_meet_every_class_and_channel(shape):
    """Each as often as another, give or take one in two."""
    channels = np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape)
    counts = np.bincount(sample(channels), minlength=shape[-1])
    assert counts.min() >= 257 / shape[-1] / 2


def test_files_of_before_still_count(copy):
    """They hold 256 numbers and do not say so."""
    folder = copy / "segmentation" / "1"
    signature = tf.saved_model.load(str(folder)).signatures["serving_image"]
    (case, *_) = json.loads((folder / FILE).read_text())[1::2]
    del case["samples"]
    answers = signature(image=tf.constant(case["inputs"]["image"], tf.float32))
    case["answers"] = {key: sample(value.numpy(), 256) for key, value in answers.items()}
    (folder / FILE).write_text(json.dumps([case]))
    assert replay(folder) < 1e-4


def test_differences():
    assert difference([1, 2, 3, 3], [1, 2, 3, 0]) == 0.25
    assert difference([0.5, 0.25], [0.5, 0.2]) == pytest.approx(0.05)
    assert difference([100.0, 0.5], [101.0, 0.5]) == pytest.approx(0.01)
    assert difference([0.5], [float("nan")]) == float("inf")
    assert difference([0.5], [0.5, 0.5]) == float("inf")


def fields(message):
    """Number -> contents of a protobuf message, read without its definition."""
    known = Empty()
    known.ParseFromString(message)
    found = {}
    for field in UnknownFieldSet(known):
        assert field.wire_type == 2
        found.setdefault(field.field_number, []).append(field.data)
    return found


def test_tensorflow_serving_warms_up_with_the_golden_images(root):
    path = root / "segmentation" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    images = golden_images()
    assert len(logs) == 2 * len(images)
    for k, log in enumerate(logs):
        (request,) = fields(fields(log)[6][0])[1]
        (spec,), (entry,) = fields(request)[1], fields(request)[2]
        assert fields(spec)[1] == [b"segmentation"]
        name = "image" if k % 2 else "image_bytes"
        assert fields(spec)[3] == [b"serving_image" if k % 2 else b"serving_default"]
        assert fields(entry)[1] == [name.encode()]
        tensor = tf.make_ndarray(TensorProto.FromString(fields(entry)[2][0]))
        if k % 2:
            assert (tensor.dtype, tensor.shape[0], tensor.shape[3]) == (np.float32, 1, 1)
        else:
            assert tensor.tolist() == [images[k // 2]]
