"""A loaded version: the SavedModel's own answers, in batches, with bad neighbours and bombs."""

import io
import json
import shutil
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from PIL import Image
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tf_dicom_ce.errors import RequestError, UserError
from tf_dicom_ce.serving.servable import BATCH, Servable


@pytest.fixture(scope="module", params=["classification", "segmentation"])
def folder(request, repository_folder):
    return repository_folder / request.param / "1"


@pytest.fixture(scope="module")
def servable(folder):
    return Servable(folder)


@pytest.fixture(scope="module")
def eager(folder):
    return tf.saved_model.load(str(folder)).signatures


def strings(*files):
    return {"image_bytes": np.array(files, object)}


def assert_same(answer, expected, rows=slice(None)):
    assert set(answer) == set(expected)
    for name, value in expected.items():
        assert answer[name].dtype == value.dtype.as_numpy_dtype
        np.testing.assert_allclose(answer[name], value.numpy()[rows], atol=1e-5, err_msg=name)


def test_what_it_says_of_itself(servable, folder):
    assert (servable.name, servable.version) == (folder.parent.name, 1)
    assert servable.content == json.loads((folder / f"{servable.name}.json").read_text())
    image = servable.signatures["serving_image"].inputs["image"]
    assert (image.dtype, image.shape) == (np.float32, (None, None, None, 1))
    contents = servable.signatures["serving_default"].inputs["image_bytes"]
    assert (contents.dtype, contents.shape) == (object, (None,))
    probabilities = servable.signatures["serving_default"].outputs["probabilities"]
    assert probabilities.shape == ((None, 32, 64, 3) if servable.name[0] == "s" else (None, 3))


def test_metadata_are_those_of_the_file(servable, folder):
    metadata = json.loads(json.dumps(servable.metadata()))
    assert metadata["model_spec"] == {
        "name": folder.parent.name,
        "signature_name": "",
        "version": "1",
    }
    definitions = metadata["metadata"]["signature_def"]["signature_def"]
    file = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    expected = file.meta_graphs[0].signature_def
    assert set(definitions) == set(expected) >= {"serving_default", "serving_image"}
    for name, definition in definitions.items():
        assert ParseDict(definition, meta_graph_pb2.SignatureDef()) == expected[name]
    shape = definitions["serving_image"]["inputs"]["image"]["tensor_shape"]
    assert shape["unknown_rank"] is False
    assert [size["size"] for size in shape["dim"]] == ["-1", "-1", "-1", "1"]


def test_bytes_and_tensors_are_answered_as_by_the_savedmodel(servable, eager, images, encode):
    files = [encode(images[0]), encode(images[1], "JPEG"), encode(images[2])]
    expected = eager["serving_default"](image_bytes=tf.constant(files))
    assert_same(servable.predict("serving_default", strings(*files)), expected)
    image = np.stack([images[0], images[0].T.reshape(50, 70)])[..., None].astype(np.float32)
    expected = eager["serving_image"](image=tf.constant(image))
    assert_same(servable.predict("serving_image", {"image": image}), expected)


def test_more_images_than_a_batch_and_more_than_allowed(servable, eager, images, encode):
    files = [encode(images[k % 3]) for k in range(2 * BATCH + 1)]
    expected = eager["serving_default"](image_bytes=tf.constant(files))
    assert_same(servable.predict("serving_default", strings(*files)), expected)
    for signature, inputs, count in [
        ("serving_default", strings(*[files[0]] * 33), 33),
        ("serving_default", strings(), 0),
        ("serving_image", {"image": np.zeros((33, 1, 1, 1), np.float32)}, 33),
    ]:
        with pytest.raises(RequestError, match=f": {count} instances, expected 1 to 32") as caught:
            servable.predict(signature, inputs)
        assert caught.value.status == 400


def sixteen_bit():
    file = io.BytesIO()
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(file, "PNG")
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min((width + 1) * height, 10_000_000)))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg(image=None, **options):
    file = io.BytesIO()
    image = (
        np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8) if image is None else image
    )
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def with_size(contents, height, width):
    """A JPEG that claims another size."""
    at = contents.index(b"\xff\xc0") + 5
    return contents[:at] + struct.pack(">HH", height, width) + contents[at + 4 :]


def with_scans(contents, count):
    """A progressive JPEG whose last scan is repeated."""
    last = contents.rindex(b"\xff\xda")
    return contents[:-2] + contents[last:-2] * count + contents[-2:]


BAD = {
    "empty": b"",
    "junk": b"junk",
    "half a PNG header": png_of(10, 10)[:20],
    "truncated PNG": png_of(100, 100)[:-30],
    "PNG whose header comes second": png_of(9, 9)[:8]
    + chunk(b"teSt", bytes(13))
    + png_of(9, 9)[8:],
    "16-bit PNG": sixteen_bit(),
    "GIF": b"GIF89a" + bytes(100),
    "truncated JPEG": jpeg()[:-500],
    "half a JPEG header": jpeg()[:30],
    "wide PNG": png_of(2**31 - 1, 2**31 - 1),
    "PNG of 10 million pixels": png_of(100_000, 100),
    "JPEG of 4 billion pixels": with_size(jpeg(), 65_500, 65_500),
    "JPEG of 500 scans": with_scans(jpeg(progressive=True), 500),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_decoded_is_named(servable, images, encode, name):
    with pytest.raises(RequestError, match="image_bytes, instance 1: ") as caught:
        servable.predict("serving_default", strings(encode(images[0]), BAD[name]))
    assert caught.value.status == 400


def test_size_and_scans_are_what_the_last_were_refused_for(servable):
    for name in list(BAD)[-4:]:
        with pytest.raises(RequestError, match="at most 4194304 pixels and 100 JPEG scans"):
            servable.predict("serving_default", strings(BAD[name]))


def test_an_image_that_the_graph_refuses(servable):
    with pytest.raises(RequestError, match="non-zero size") as caught:
        servable.predict("serving_image", {"image": np.zeros((1, 0, 5, 1), np.float32)})
    assert caught.value.status == 400
    assert "\n" not in caught.value.message


def test_good_neighbours_of_bad_images_are_answered(servable, eager, encode):
    rng = np.random.default_rng(4)
    files = [encode(rng.integers(0, 256, (20 + k, 30), dtype=np.uint8)) for k in range(48)]
    expected = eager["serving_default"](image_bytes=tf.constant(files))
    bad = list(BAD.values())

    def ask(k):
        if k % 3 == 2:
            with pytest.raises(RequestError):
                servable.predict("serving_default", strings(bad[k % len(bad)]))
        else:
            answer = servable.predict("serving_default", strings(files[k]))
            assert_same(answer, expected, slice(k, k + 1))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(48)))


def test_the_mask_alone(repository_folder, images, encode):
    servable = Servable(repository_folder / "segmentation" / "1")
    files = strings(*(encode(image) for image in images))
    mask = servable.predict("serving_default", files)["mask"]
    assert len(np.unique(mask)) > 1
    answer = servable.predict("serving_mask", files)
    assert list(answer) == ["mask"]
    np.testing.assert_array_equal(answer["mask"], mask)
    answer = servable.predict("serving_mask_png", files)
    assert list(answer) == ["mask_bytes"]
    for one, contents in zip(mask, answer["mask_bytes"], strict=True):
        with Image.open(io.BytesIO(contents)) as png:
            np.testing.assert_array_equal(np.asarray(png), one)
    for signature in ("serving_mask", "serving_mask_png"):
        with pytest.raises(RequestError, match="instance 1: the image cannot be decoded"):
            servable.predict(signature, strings(encode(images[0]), BAD["truncated PNG"]))


@pytest.fixture
def counting(tmp_path):
    """A slow foreign model that answers with the size of the batch that it worked on."""

    class Counting(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
        def __call__(self, image_bytes):
            x = tf.while_loop(
                lambda x: True, lambda x: (x @ x,), (tf.eye(400),), maximum_iterations=30
            )
            with tf.control_dependencies(x):
                return {"count": tf.fill(tf.shape(image_bytes), tf.size(image_bytes))}

    module = Counting()
    folder = tmp_path / "counting" / "3"
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return Servable(folder)


def test_what_arrives_together_is_computed_together(counting, encode):
    file, start = encode(np.zeros((4, 4), np.uint8)), threading.Barrier(24)

    def ask(_):
        start.wait()
        return counting.predict("serving_default", strings(file))["count"][0]

    with ThreadPoolExecutor(24) as pool:
        counts = list(pool.map(ask, range(24)))
    assert counting.content == {}
    assert max(counts) > 1
    assert max(counts) <= BATCH


def count_threads():
    return len(list(Path("/proc/self/task").iterdir()))


def test_what_is_forgotten_returns_its_threads(repository_folder, encode):
    counts = []
    for _ in range(3):
        servable = Servable(repository_folder / "classification" / "1")
        servable.predict("serving_default", strings(encode(np.zeros((4, 4), np.uint8))))
        during = count_threads()
        del servable
        counts.append((during, count_threads()))
    assert counts[2] == counts[1]
    assert counts[1][1] < counts[1][0]


@pytest.mark.parametrize(
    ("harm", "errors"),
    [
        ("saved_model.pb", (DecodeError, OSError, tf.errors.OpError)),
        ("variables/variables.index", UserError),
    ],
)
def test_a_broken_folder_is_an_error(repository_folder, tmp_path, harm, errors):
    folder = tmp_path / "classification" / "1"
    shutil.copytree(repository_folder / "classification" / "1", folder)
    (folder / harm).write_bytes((folder / harm).read_bytes()[:-50])
    with pytest.raises(errors):
        Servable(folder)
