"""From Orthanc and back: images out, results in; Orthanc in a network namespace of its own."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from tf_dicom_ce.cli import main

pytestmark = pytest.mark.pacs

SIZE = (32, 64)
CINE = "1.2.840.10008.5.1.4.1.1.3.1"

# Orthanc's own interface, not the one that the results were sent by.
FETCH = """
import json, sys, urllib.request
from pathlib import Path
root = "http://127.0.0.1:8042"
passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
passwords.add_password(None, root, "joe", "hunter2", is_authenticated=True)
opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
for name in json.load(opener.open(f"{root}/instances")):
    Path(sys.argv[1], name).write_bytes(opener.open(f"{root}/instances/{name}/file").read())
"""


def picture(seed):
    return (np.random.default_rng(seed).random(SIZE) < 0.4).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def frames():
    return {"single": [picture(0)], "cine": [picture(k) for k in (1, 2, 3)]}


@pytest.fixture(scope="module")
def orthanc(start_orthanc, tmp_path_factory, frames, build):
    folder = tmp_path_factory.mktemp("sent")
    for name, images in frames.items():
        dataset = build(images[0])
        dataset.PatientName = name
        dataset.Modality = "US"
        dataset.SeriesInstanceUID = generate_uid()
        if len(images) > 1:
            dataset.SOPClassUID, dataset.NumberOfFrames = CINE, len(images)
            dataset.PixelData = np.stack(images).tobytes()
        dataset.save_as(folder / name, enforce_file_format=True)
    return start_orthanc(folder)


@pytest.fixture
def predict(orthanc, heads, tmp_path, monkeypatch, capfd):
    """Runs `predict` on what the PACS holds, and stores the results there; code and streams."""

    def run(task, password="hunter2", url=orthanc.url):
        words = f"predict {url} --model {heads / task} --frames all --send {url}"
        monkeypatch.setenv("TF_DICOM_CE_PACS_USER", "joe")
        monkeypatch.setenv("TF_DICOM_CE_PACS_PASSWORD", password)
        with orthanc.entered():
            code = main([*words.split(), "--out", str(tmp_path / "out")])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def fetch(orthanc, tmp_path):
    """All instances of a modality that Orthanc holds, as (data set, bytes) by UID."""

    def run(modality):
        folder = tmp_path / "fetched"
        folder.mkdir(exist_ok=True)
        command = orthanc.inside(sys.executable, "-c", FETCH, str(folder))
        subprocess.run(command, check=True, timeout=60)
        found = [(dcmread(path), path.read_bytes()) for path in folder.iterdir()]
        return {d.SOPInstanceUID: (d, content) for d, content in found if d.Modality == modality}

    return run


def test_masks_go_there_and_come_back(predict, fetch, frames, tmp_path):
    code, out, err = predict("segmentation")
    assert code == 0, err
    assert "PACS: 4 results stored, 4 of them sent now" in out
    assert "single" not in out + err
    stored = fetch("SEG")
    written = {dcmread(p).SOPInstanceUID: p for p in (tmp_path / "out" / "seg").iterdir()}
    assert set(stored) == set(written)
    assert len(stored) == len(fetch("SR")) == 2
    images = {d.SOPInstanceUID: d for d, _ in fetch("US").values()}
    assert len(images) == 2
    seen = set()
    for uid, (result, content) in stored.items():
        assert content == written[uid].read_bytes()
        (reference,) = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        image = images[reference.ReferencedSOPInstanceUID]
        assert result.StudyInstanceUID == image.StudyInstanceUID
        assert result.PatientName == image.PatientName
        name = str(image.PatientName)
        masks = result.pixel_array.reshape(-1, *SIZE)
        np.testing.assert_array_equal(masks, np.array(frames[name]) > 0)
        seen.add(name)
    assert seen == {"single", "cine"}

    code, out, err = predict("segmentation")
    assert code == 0, err
    # The results in the PACS are no images to answer.
    assert "4 images, 0 answered now, 4 before" in out
    assert "PACS: 4 results stored, 0 of them sent now" in out
    assert set(fetch("SEG")) == set(stored)


def test_reports_go_there_and_come_back(predict, fetch, tmp_path):
    code, out, err = predict("classification")
    assert code == 0, err
    assert "PACS: 2 results stored, 2 of them sent now" in out
    written = {dcmread(p).SOPInstanceUID: p for p in (tmp_path / "out" / "sr").iterdir()}
    assert len(written) == 2
    # Those of the segmentation may lie there, too.
    stored = {uid: found for uid, found in fetch("SR").items() if uid in written}
    assert {uid: content for uid, (_, content) in stored.items()} == {
        uid: path.read_bytes() for uid, path in written.items()
    }


def test_dimse(predict, orthanc, heads, dcmtk, tmp_path):
    """DCMTK finds and fetches what was sent, as it was sent."""
    # Results of another model than those above have other UIDs.
    shutil.copytree(heads / "segmentation", tmp_path / "other")
    code, out, err = predict(tmp_path / "other", url=orthanc.dimse)
    assert code == 0, err
    assert "PACS: 2 instances, 2 of them fetched now" in out
    assert "PACS: 4 results stored, 4 of them sent now" in out
    assert "single" not in out + err
    paths = (tmp_path / "out").glob("s[er]*/*.dcm")
    written = {one.SOPInstanceUID: one for one in map(dcmread, paths)}
    assert sorted(one.Modality for one in written.values()) == ["SEG", "SEG", "SR", "SR"]
    fetched = tmp_path / "fetched"
    fetched.mkdir()

    def ask(name, *words, **keys):
        keys = [word for k, one in keys.items() for word in ("-k", f"{k}={one}")]
        command = [dcmtk(name), "-S", "-aec", "ORTHANC", "127.0.0.1", "4242", *words, *keys]
        done = subprocess.run(orthanc.inside(*command), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    for one in written.values():
        place = {"StudyInstanceUID": one.StudyInstanceUID}
        place |= {"SeriesInstanceUID": one.SeriesInstanceUID, "QueryRetrieveLevel": "IMAGE"}
        assert one.SOPInstanceUID in ask("findscu", **place, SOPInstanceUID="")
        ask("getscu", "-od", str(fetched), **place, SOPInstanceUID=one.SOPInstanceUID)
    arrived = {dcmread(p).SOPInstanceUID: dcmread(p) for p in fetched.iterdir()}
    assert len(arrived) == 4
    assert arrived == written

    code, out, err = predict(tmp_path / "other", url=orthanc.dimse)
    assert code == 0, err
    assert "4 images, 0 answered now, 4 before" in out
    assert "PACS: 4 results stored, 0 of them sent now" in out


def test_wrong_password(predict):
    code, _, err = predict("segmentation", "hunter3")
    assert code == 2
    assert "refused the credentials (HTTP 401)" in err
    assert "Traceback" not in err
    assert "hunter" not in err
