"""export/client.py against a real server, with nothing but the standard library."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.models.familiarity import THRESHOLD
from tf_dicom_ce.saved_model import golden
from tf_dicom_ce.serving.settings import TOKEN_VARIABLE

CLIENT = Path(__file__).parents[2] / "export" / "client.py"
TOKEN = "planted-token"


@pytest.fixture(scope="module")
def url(repository_folder, serve_models):
    """A server of the repository that asks for a token."""
    with serve_models(repository_folder, tokens={"reader": TOKEN}) as address:
        yield address


@pytest.fixture
def ask(url, tmp_path):
    def run(*words, token=TOKEN, url=url):
        # -I -S: without anything that is installed.
        return subprocess.run(
            [sys.executable, "-I", "-S", str(CLIENT), *map(str, words), "--url", url],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={TOKEN_VARIABLE: token} if token else {},
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def files(images, tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    return paths


def answers(folder, files):
    contents = tf.constant([path.read_bytes() for path in files])
    return tf.saved_model.load(str(folder)).signatures["serving_default"](image_bytes=contents)


def test_classes_of_two_images(ask, files, repository_folder):
    done = ask("classification", *files)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    true = answers(repository_folder / "classification" / "1", files)
    assert [line["file"] for line in lines] == [str(path) for path in files]
    assert [line["class_id"] for line in lines] == true["class_id"].numpy().tolist()
    np.testing.assert_allclose(
        [line["probabilities"] for line in lines], true["probabilities"], atol=1e-5
    )


def test_a_mask_of_a_version(ask, files, repository_folder, tmp_path):
    done = ask("segmentation", files[0], "--version", 1, "--mask", "mask.pgm")
    assert (done.returncode, done.stderr) == (0, "")
    true = answers(repository_folder / "segmentation" / "1", files[:1])["mask"].numpy()[0]
    with Image.open(tmp_path / "mask.pgm") as image:
        written = np.asarray(image)
    np.testing.assert_array_equal(written, true * (255 // max(1, true.max())))
    line = json.loads(done.stdout)
    assert line["mask"] == {"shape": [32, 64]}
    assert set(line) == {"file", "mask", "pixels"}
    assert line["pixels"] == {str(k): int((true == k).sum()) for k in np.unique(true)}


def test_the_selftest_passes_and_fails(ask, repository_folder, second_classifier):
    for name in ("classification", "segmentation"):
        done = ask(name, "--selftest", repository_folder / name / "1")
        assert (done.returncode, done.stderr) == (0, "")
        assert ", ok" in done.stdout
    done = ask("classification", "--selftest", second_classifier)
    assert (done.returncode, done.stderr) == (1, "")
    assert "NOT the same" in done.stdout


def test_mistakes_are_told_in_one_line(ask, files, tmp_path):
    (tmp_path / "junk.png").write_bytes(b"junk")
    for words, options, message in (
        (["heart", files[0]], {}, "HTTP 404: There is no model heart that can be asked."),
        (["classification", files[0]], {"token": None}, "HTTP 401: "),
        (["classification", "junk.png"], {}, "HTTP 400: "),
        (["classification", "none.png"], {}, "No such file or directory: 'none.png'"),
        (["classification", files[0]], {"url": "http://127.0.0.1:9"}, "refused"),
    ):
        done = ask(*words, **options)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    for words in (["classification"], ["segmentation", *files, "--mask", "mask.pgm"]):
        assert "usage: client.py" in ask(*words).stderr


def test_it_compares_as_the_package_does():
    spec = importlib.util.spec_from_file_location("client", CLIENT)
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    assert (client.TOLERANCE, client.FAMILIAR) == (golden.TOLERANCE, THRESHOLD)
    rng = np.random.default_rng(0)
    for shape in ((3,), (5, 7), (2, 30, 40, 3)):
        for array in (rng.normal(size=shape).astype(np.float32), rng.integers(0, 3, shape)):
            ours, theirs = golden.sample(array), client.sample(array.tolist(), 257)
            np.testing.assert_allclose(theirs, ours, rtol=1e-6)
            other = golden.sample(array * 3)
            assert client.difference(ours, other) == pytest.approx(golden.difference(ours, other))
    for found in ([1.0], [1.0, float("nan")], [float("inf"), 1.0]):
        assert client.difference([1.0, 2.0], found) == golden.difference([1.0, 2.0], found)
        assert client.difference([1.0, 2.0], found) == float("inf")
