"""DIMSE against Orthanc and DCMTK's dcmqrscp, each in a network namespace of its own."""

import io
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tf_dicom_ce.cli import main
from tf_dicom_ce.intake.dimse import connect
from tf_dicom_ce.intake.download import Download, download
from tf_dicom_ce.intake.query import Query

pytestmark = pytest.mark.pacs

STUDIES, CT = 4, "1.2.840.10008.5.1.4.1.1.2"
IMAGES = STUDIES * 5

# Slowed down, so that there is a midway.
DOWNLOAD = """
import sys, time
from pathlib import Path
from tf_dicom_ce.intake import download
from tf_dicom_ce.intake.dimse import connect
from tf_dicom_ce.intake.query import Query
def fetch(*arguments, fetch=download._fetch):
    time.sleep(0.2)
    return fetch(*arguments)
download._fetch = fetch
with connect(sys.argv[1]) as archive:
    print(download.download(archive, Query(), Path(sys.argv[2]), progress=False))
"""

CONFIGURATION = """
NetworkTCPPort = 4343
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QR {0} RW (100, 1024mb) ANY
AETable END
"""


@pytest.fixture(scope="module")
def sent(tmp_path_factory, build):
    """The folder of what is in the archives: studies of five US, of which one is JPEG, and a CT."""
    folder = tmp_path_factory.mktemp("sent")
    rng = np.random.default_rng(7)
    for study in range(STUDIES):
        for position in range(6):
            pixels = rng.integers(0, 256, (40, 60), np.uint8)
            dataset = build(pixels)
            if position == 0:
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, "JPEG")
                dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
                dataset.PixelData = encapsulate([stream.getvalue()])
                dataset["PixelData"].is_undefined_length = True
            is_ct = position == 5
            if is_ct:
                dataset.SOPClassUID = CT
            dataset.Modality = "CT" if is_ct else "US"
            dataset.StudyInstanceUID = f"1.2.{study}"
            dataset.SeriesInstanceUID = f"1.2.{study}.{1 + is_ct}"
            dataset.SOPInstanceUID = f"1.2.{study}.{1 + is_ct}.{position}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID, dataset.PatientName = f"P{study // 2}", "Doe"
            dataset.StudyID = dataset.SeriesNumber = dataset.InstanceNumber = "1"
            dataset.StudyDate = f"202401{study + 1:02d}"
            dataset.StudyDescription = "US Thyroid" if study % 2 else "US Abdomen"
            path = folder / f"{study}-{position}.dcm"
            dataset.save_as(path, enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def dcmqrscp(tmp_path_factory, network, sent, dcmtk):
    folder = tmp_path_factory.mktemp("dcmqrscp")
    configuration = folder / "configuration"
    configuration.write_text(CONFIGURATION.format(folder))
    # Not the JPEG: by C-GET it sends all of a class in one transfer syntax.
    held = [path for path in sent.iterdir() if not path.stem.endswith("-0")]
    subprocess.run([dcmtk("dcmqridx"), folder, *held], check=True, capture_output=True)
    command = network.inside(dcmtk("dcmqrscp"), "-c", str(configuration))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        network.dimse, network.a_study = "dicom://QR@127.0.0.1:4343", 4
        yield network
        server.kill()


@pytest.fixture(scope="module")
def orthanc(start_orthanc, sent):
    started = start_orthanc(sent)
    started.a_study = 5
    return started


@pytest.fixture(params=["orthanc", "dcmqrscp"])
def archive(request):
    return request.getfixturevalue(request.param)


def fetch(archive, folder, **query):
    with archive.entered(), connect(archive.dimse) as found:
        return download(found, Query(**query), folder, progress=False)


def files(folder):
    return list(folder.rglob("*.dcm"))


def test_all_ultrasound_arrives_as_it_was_sent(archive, sent, tmp_path):
    folder, images = tmp_path / "pacs", STUDIES * archive.a_study
    assert fetch(archive, folder) == Download(images, images, 0)
    arrived = {dcmread(path).SOPInstanceUID: dcmread(path) for path in files(folder)}
    originals = {one.SOPInstanceUID: one for one in map(dcmread, files(sent))}
    assert len(arrived) == images
    for uid, found in arrived.items():
        assert found.Modality == "US"
        assert found == originals[uid]
        syntax = originals[uid].file_meta.TransferSyntaxUID
        assert found.file_meta.TransferSyntaxUID == syntax
    assert fetch(archive, folder) == Download(images, 0, 0)


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ({"dates": "20240103"}, 1),
        ({"dates": "20240102-20240103"}, 2),
        ({"description": "thyroid", "dates": "-20240103"}, 1),
    ],
)
def test_filters(archive, tmp_path, query, studies):
    found = fetch(archive, tmp_path / "pacs", **query)
    assert found.instances == studies * archive.a_study


def test_another_modality(orthanc, tmp_path):
    """Orthanc tells the SOP class, which dcmqrscp does not."""
    assert fetch(orthanc, tmp_path / "pacs", modality="CT") == Download(STUDIES, STUDIES, 0)


def test_a_killed_download_goes_on(orthanc, tmp_path):
    folder = tmp_path / "pacs"
    command = orthanc.inside(sys.executable, "-c", DOWNLOAD, orthanc.dimse, str(folder))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while len(files(folder)) < 4:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
    there = len(files(folder))
    assert 4 <= there < IMAGES
    assert fetch(orthanc, folder) == Download(IMAGES, IMAGES - there, 0)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == IMAGES


def test_an_archive_that_goes_down_for_a_moment(orthanc, tmp_path):
    folder = tmp_path / "pacs"
    command = orthanc.inside(sys.executable, "-c", DOWNLOAD, orthanc.dimse, str(folder))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while len(files(folder)) < 4:
            assert time.monotonic() < until
            time.sleep(0.01)
        orthanc.kill()
        time.sleep(1)
        assert process.poll() is None
        orthanc.start()
        output, errors = process.communicate(timeout=60)
    assert errors == b""
    assert output.decode().strip() == str(Download(IMAGES, IMAGES, 0))
    assert len(files(folder)) == IMAGES


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly")  # of tf.data
def test_index_and_train(archive, tmp_path, capfd):
    images = STUDIES * archive.a_study
    run = str(tmp_path / "index")
    with archive.entered():
        assert main(["index", archive.dimse, "--run", run, "--pacs-dates", "20240101-"]) == 0
    out, err = capfd.readouterr()
    assert f"PACS: {images} instances, {images} of them fetched now" in out
    assert "Doe" not in out + err
    words = "train --preset quick --image-size 32 32 --width 0.03125 --epochs 1 --no-export"
    words = [*words.split(), "--pacs-dates", "20240101-", "--data", archive.dimse]
    with archive.entered():
        code = main([*words, "--run", str(tmp_path / "run")])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert f"PACS: {images} instances, 0 of them fetched now" in out
    assert f"{images} images of 2 patients" in out
