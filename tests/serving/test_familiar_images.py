"""Heads that tell what is familiar: in every answer, and refused where it is not."""

import base64
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest
from pydicom import dcmread

from tf_dicom_ce.cli import main
from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.models.familiarity import familiarity_of, features
from tf_dicom_ce.preprocessing import resize, standardise
from tf_dicom_ce.training.networks import build_head

CLIENT = Path(__file__).parents[2] / "export" / "client.py"
SIZE = (32, 64)
CLASSES = {"classification": ["poor", "fair", "good"], "segmentation": ["background", "liver"]}


def known(seed):
    """Noise from which the head's training images are made, uint8 [40, 60]."""
    return np.random.default_rng(seed).integers(60, 200, (40, 60), dtype=np.uint8)


STRANGE = np.tile(np.linspace(0, 255, 60, dtype=np.uint8), (40, 1))  # a ramp


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("familiar")
    for task, classes in CLASSES.items():
        keras.utils.set_random_seed(0)
        config = FinetuneConfig(task=task, image_size=SIZE, width=1 / 32)
        head = build_head(config, None, len(classes))
        images = [resize(known(k)[..., np.newaxis], SIZE) for k in range(90)]
        seen = features(head.see(standardise(np.stack(images)))).numpy()
        head.familiarity = familiarity_of(seen[:50], seen[50:])
        head.export(folder / task, metadata={"classes": classes, "data_fingerprint": "f"})
    return folder


@pytest.fixture(scope="module")
def server(root, serve_models):
    with serve_models(root) as url, httpx.Client(base_url=url, timeout=60, verify=False) as client:
        yield client


def ask(server, task, image, encode, **query):
    headers = {"Content-Type": "image/png"}
    path = f"/v1/models/{task}/dicom"
    return server.post(path, content=encode(image), headers=headers, params=query)


@pytest.mark.parametrize("task", CLASSES)
def test_what_is_strange_is_refused(server, task, encode):
    answer = ask(server, task, known(7), encode).json()
    assert answer["familiarity"] > 0.5
    assert answer["model"]["threshold"] == 0.5
    refused = ask(server, task, STRANGE, encode)
    assert refused.status_code == 409
    assert "not like those that the model was trained on" in refused.json()["error"]
    answer = ask(server, task, STRANGE, encode, unfamiliar="true")
    assert answer.status_code == 200
    assert answer.json()["familiarity"] < 0.3


@pytest.mark.parametrize(
    ("task", "signature", "names"),
    [
        ("classification", "serving_default", {"probabilities", "class_id"}),
        ("segmentation", "serving_default", {"probabilities", "mask"}),
        ("segmentation", "serving_mask", {"mask"}),
        ("segmentation", "serving_mask_png", {"mask_bytes"}),
    ],
)
def test_predict_tells_but_does_not_refuse(server, task, signature, names, encode):
    files = [{"b64": base64.b64encode(encode(image)).decode()} for image in (known(7), STRANGE)]
    body = {"signature_name": signature, "instances": files}
    ours, strange = server.post(f"/v1/models/{task}:predict", json=body).json()["predictions"]
    assert set(ours) == set(strange) == {*names, "familiarity"}
    assert strange["familiarity"] < 0.3 < 0.5 < ours["familiarity"]
    page = ask(server, task, known(7), encode).json()
    assert page["familiarity"] == pytest.approx(ours["familiarity"], abs=0.01)


@pytest.mark.parametrize("task", CLASSES)
def test_the_client_warns(server, task, tmp_path, encode):
    for name, image in (("ours.png", known(7)), ("strange.png", STRANGE)):
        (tmp_path / name).write_bytes(encode(image))
    command = [sys.executable, CLIENT, task, "ours.png", "strange.png", "--url", server.base_url]
    words = map(str, command)
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True)
    ours, strange = map(json.loads, done.stdout.splitlines())
    assert strange["familiarity"] < 0.3 < 0.5 < ours["familiarity"]
    (line,) = done.stderr.splitlines()
    assert line.startswith("client.py: strange.png: not like the images that the model was trained")


@pytest.mark.parametrize("task", CLASSES)
def test_reports_tell(server, task, write):
    headers = {"Content-Type": "application/dicom", "Accept": "application/dicom"}
    content = write("image", known(7)).read_bytes()
    path = f"/v1/models/{task}/dicom"
    answer = server.post(path, content=content, headers=headers, params={"report": "true"})
    assert answer.status_code == 200, answer.text
    report = str(dcmread(io.BytesIO(answer.content)))
    assert report.count("Familiarity of the image") == 1


def test_predict_skips_and_counts(root, write, tmp_path, capsys):
    write("src/ours.dcm", known(7))
    write("src/strange.dcm", STRANGE)
    words = ["predict", tmp_path / "src", "--model", root / "classification"]
    assert main([str(word) for word in (*words, "--out", tmp_path / "out")]) == 0
    assert "unfamiliar" in capsys.readouterr().out
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["familiarity"]) > 0.5
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["code"], row["kind"]) == ("strange.dcm", "unfamiliar", "skipped")
