"""Against Orthanc, in a network namespace of its own: it listens on every interface."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from tf_dicom_ce.cli import main
from tf_dicom_ce.dicom.reader import Refusal, read_frame
from tf_dicom_ce.intake.dicomweb import Credentials, connect
from tf_dicom_ce.intake.download import download
from tf_dicom_ce.intake.query import Query

pytestmark = pytest.mark.pacs

STUDIES, ULTRASOUND = 10, 9 * 18
US, CT = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2"

# Slowed down, so that there is a midway.
DOWNLOAD = """
import dataclasses, json, sys, time
from pathlib import Path
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import download
from tf_dicom_ce.intake.dicomweb import Credentials, connect
from tf_dicom_ce.intake.query import Query
def fetch(*arguments, fetch=download._fetch):
    time.sleep(float(sys.argv[4]))
    return fetch(*arguments)
download._fetch = fetch
query = Query(**json.loads(sys.argv[3]))
try:
    with connect(sys.argv[1], Credentials.from_environment()) as archive:
        result = download.download(archive, query, Path(sys.argv[2]), progress=False)
    print(json.dumps(dataclasses.asdict(result)))
except UserError as error:
    sys.exit(str(error))
"""


def start_download(orthanc, folder, pause=0, password="hunter2", **query):
    """Starts a download as a process."""
    arguments = (orthanc.url, str(folder), json.dumps(query), str(pause))
    return subprocess.Popen(
        orthanc.inside(sys.executable, "-W", "error", "-c", DOWNLOAD, *arguments),
        env={"TF_DICOM_CE_PACS_USER": "joe", "TF_DICOM_CE_PACS_PASSWORD": password},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """The folder of what is in the PACS: files N.dcm of twenty to a study, 18 of them US."""
    folder = tmp_path_factory.mktemp("sent")
    rng = np.random.default_rng(3)
    for study in range(STUDIES):
        uids = generate_uid(), generate_uid(), generate_uid()
        for position in range(20):
            pixels = rng.integers(0, 256, (40, 60, 3) if position % 3 else (40, 60), np.uint8)
            dataset = compressed(pixels) if position % 5 == 0 else plain(pixels)
            is_ct = position >= 18 or study == STUDIES - 1
            dataset.SOPClassUID = CT if is_ct else US
            dataset.SOPInstanceUID = generate_uid()
            dataset.Modality = "CT" if is_ct else "US"
            dataset.StudyInstanceUID = uids[0]
            dataset.SeriesInstanceUID = uids[1 + is_ct]
            dataset.PatientID = f"P{study // 2}"
            dataset.StudyDate = f"202401{study + 1:02d}"
            dataset.StudyDescription = "US Thyroid" if study % 2 else "US Abdomen"
            dataset.save_as(folder / f"{20 * study + position}.dcm", enforce_file_format=True)
    return folder


def plain(pixels):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    return dataset


def compressed(pixels):
    dataset, stream = plain(pixels), io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream.getvalue()])
    if pixels.ndim == 3:
        dataset.PhotometricInterpretation = "YBR_FULL_422"
    return dataset


@pytest.fixture(scope="module")
def orthanc(start_orthanc, sent):
    return start_orthanc(sent)


def finish(process):
    """The result of a download, as printed."""
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return json.loads(output)


def files(folder):
    return list(folder.rglob("*.dcm"))


def wait_for_some(folder):
    until = time.monotonic() + 60
    while len(files(folder)) < 20:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_all_ultrasound_arrives_as_it_was_sent(orthanc, sent, tmp_path):
    result = finish(start_download(orthanc, tmp_path / "pacs"))
    assert result == {"instances": ULTRASOUND, "fetched": ULTRASOUND, "skipped": 0}
    arrived = {dcmread(path).SOPInstanceUID: path for path in files(tmp_path / "pacs")}
    originals = {dcmread(path).SOPInstanceUID: path for path in files(sent)}
    assert len(arrived) == ULTRASOUND
    for uid, path in arrived.items():
        assert dcmread(path).Modality == "US"
        assert path.read_bytes() == originals[uid].read_bytes()
        frame, original = read_frame(path), read_frame(originals[uid])
        assert not isinstance(frame, Refusal)
        np.testing.assert_array_equal(frame.pixels, original.pixels)
    # It counts instances, so that a whole study is not listed again.
    assert len((tmp_path / "pacs.jsonl").read_text().split()) >= STUDIES - 1
    syntaxes = {dcmread(path).file_meta.TransferSyntaxUID for path in arrived.values()}
    assert syntaxes == {ExplicitVRLittleEndian, JPEGBaseline8Bit}


def test_a_killed_download_goes_on(orthanc, tmp_path):
    folder = tmp_path / "pacs"
    process = start_download(orthanc, folder, pause=0.02)
    wait_for_some(folder)
    process.kill()
    process.communicate()
    there = len(files(folder))
    assert 20 <= there < ULTRASOUND
    assert all(not isinstance(read_frame(path), Refusal) for path in files(folder))
    result = finish(start_download(orthanc, folder))
    assert result == {"instances": ULTRASOUND, "fetched": ULTRASOUND - there, "skipped": 0}
    assert finish(start_download(orthanc, folder))["fetched"] == 0
    assert len([path for path in folder.rglob("*") if path.is_file()]) == ULTRASOUND


def test_a_server_that_goes_down_for_a_moment(orthanc, tmp_path):
    folder = tmp_path / "pacs"
    process = start_download(orthanc, folder, pause=0.02)
    wait_for_some(folder)
    orthanc.kill()
    assert len(files(folder)) < ULTRASOUND
    time.sleep(1)
    assert process.poll() is None
    orthanc.start()
    assert finish(process) == {"instances": ULTRASOUND, "fetched": ULTRASOUND, "skipped": 0}
    assert all(not isinstance(read_frame(path), Refusal) for path in files(folder))


@pytest.mark.parametrize(
    ("query", "instances"),
    [
        ({"dates": "20240103"}, 18),
        ({"dates": "20240103-20240105"}, 54),
        ({"dates": "20240108-"}, 36),
        ({"description": "thyroid"}, 72),
        ({"description": "us abdo*"}, 90),
        ({"description": "thyroid", "dates": "-20240103"}, 18),
        ({"modality": "CT"}, 38),
    ],
)
def test_filters(orthanc, tmp_path, query, instances):
    credentials = Credentials(user="joe", password="hunter2")
    with orthanc.entered(), connect(orthanc.url, credentials) as archive:
        found = download(archive, Query(**query), tmp_path / "pacs", progress=False)
    assert found.instances == instances


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"password": "hunter3"}, "refused the credentials (HTTP 401); set TF_DICOM_CE_PACS_TOKEN"),
        ({"modality": "MR"}, "has no study of modality MR"),
        ({"dates": "20230101-20231231"}, "modality US and dates 20230101-20231231"),
        ({"description": "neck"}, "has 9 studies of modality US, none of them with a description"),
    ],
)
def test_messages(orthanc, tmp_path, query, message):
    process = start_download(orthanc, tmp_path / "pacs", **query)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in errors
    assert "hunter" not in errors


@pytest.fixture
def eagerly():
    """Runs eagerly: tracing would take longer than a few steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly")  # of tf.data
def test_training_starts_from_the_url(orthanc, tmp_path, monkeypatch, capfd):
    words = "train --preset quick --image-size 32 32 --width 0.03125 --epochs 1 --no-export"
    words += " --batch-size 64"
    words = [*words.split(), "--pacs-dates", "20240101-", "--data", orthanc.url]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TF_DICOM_CE_PACS_USER", "joe")

    def train(password):
        monkeypatch.setenv("TF_DICOM_CE_PACS_PASSWORD", password)
        with orthanc.entered():
            code = main([*words, "--run", str(tmp_path / "run")])
        return code, *capfd.readouterr()

    code, _, err = train("hunter3")
    assert code == 2
    assert "TF_DICOM_CE_PACS_TOKEN" in err
    assert "Traceback" not in err
    code, out, err = train("hunter2")
    assert code == 0, err
    assert f"PACS: {ULTRASOUND} instances, {ULTRASOUND} of them fetched now" in out
    assert f"{ULTRASOUND} images of 5 patients" in out
    assert (tmp_path / "run" / "best.weights.h5").exists()
    # Nothing but the files themselves may be read by others.
    (folder,) = (tmp_path / "cache" / "tf-dicom-ce" / "pacs").glob("*[!l]")
    assert folder.stat().st_mode & 0o77 == 0
