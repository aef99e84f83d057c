"""Against an application entity of pynetdicom that can be told to misbehave."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt

from tf_dicom_ce.cli import main
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import dimse_peer
from tf_dicom_ce.intake.dimse import connect
from tf_dicom_ce.intake.download import Download, download
from tf_dicom_ce.intake.query import Query

US, RETIRED = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6"
FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
KEYS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class Archive:
    """Holds data sets, and answers as PS3.4 C.4 has it; `gets` and `finds` count requests."""

    def __init__(self):
        self.instances, self.gets, self.finds, self.titles = [], [], 0, set()
        self.breaks = self.refuses = 0  # how many of the next C-GET break off, or are refused
        self.swaps, self.stalled = False, []  # events that the next C-GET wait for
        self.entity = AE("ARCHIVE")
        self.entity.require_called_aet = True

    def start(self, *classes):
        for one in classes:
            roles = {} if one in (FIND, GET) else {"scu_role": True, "scp_role": True}
            self.entity.add_supported_context(one, ALL_TRANSFER_SYNTAXES, **roles)
        handlers = [(evt.EVT_C_FIND, self.find), (evt.EVT_C_GET, self.get)]
        server = self.entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.url = f"dicom://ARCHIVE@127.0.0.1:{server.socket.getsockname()[1]}"

    def matching(self, keys):
        uids = {name: keys.get(name) for name in KEYS.values()}
        return [d for d in self.instances if all(not u or d.get(n) == u for n, u in uids.items())]

    def find(self, event):
        self.finds += 1
        self.titles.add(event.assoc.requestor.ae_title)
        keys, rows = event.identifier, {}
        for dataset in self.matching(keys):
            first, is_range, last = keys.get("StudyDate", "").partition("-")
            if first and not first <= dataset.StudyDate <= (last or ("9" if is_range else first)):
                continue
            row = Dataset()
            row.QueryRetrieveLevel = keys.QueryRetrieveLevel
            for keyword in ("Modality", "StudyDescription", "SOPClassUID", *KEYS.values()):
                if keyword in keys:
                    setattr(row, keyword, dataset.get(keyword, ""))
            if "NumberOfStudyRelatedInstances" in keys:
                study = dataset.StudyInstanceUID
                count = sum(one.StudyInstanceUID == study for one in self.instances)
                row.NumberOfStudyRelatedInstances = count
            rows[row.get(KEYS[keys.QueryRetrieveLevel])] = row
        yield from ((0xFF00, row) for row in rows.values())

    def get(self, event):
        found = self.matching(event.identifier)
        self.gets += (one.SOPInstanceUID for one in found)
        if self.breaks:
            self.breaks -= 1
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
            yield 0
            return
        if self.stalled:
            self.stalled.pop().wait(30)
        if self.refuses:
            self.refuses -= 1
            yield 0
            yield 0xC001, None
            return
        yield len(found)
        for one in found:
            yield 0xFF00, self.instances[0] if self.swaps else one


@pytest.fixture
def archive(build):
    """Two studies of two and of one instance, one of them JPEG, and a CT."""
    archive = Archive()
    for number, (study, modality) in enumerate(
        (("1.1", "US"), ("1.1", "US"), ("1.2", "US"), ("1.3", "CT"))
    ):
        dataset = build(np.full((8, 8), number, np.uint8))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
        dataset.SOPInstanceUID = f"{study}.1.{number}"
        dataset.Modality, dataset.StudyDescription = modality, f"US Liver {number}"
        dataset.StudyDate = f"2024010{number + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        archive.instances.append(dataset)
    archive.start(FIND, GET, US)
    yield archive
    archive.entity.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(dimse_peer, "_FIRST_PAUSE", 0.01)
    monkeypatch.delenv("TF_DICOM_CE_PACS_AET", raising=False)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downloads"


def fetch(archive, folder, **query):
    with connect(archive.url) as found:
        return download(found, Query(**query), folder, progress=False)


def files(folder):
    return {dcmread(p).SOPInstanceUID: p for p in folder.rglob("*") if p.is_file()}


def test_what_is_asked_for_arrives_once(archive, folder):
    assert fetch(archive, folder) == Download(3, 3, 0)
    for one in archive.instances[:3]:
        found = dcmread(files(folder)[one.SOPInstanceUID])
        assert found.PixelData == one.PixelData
        assert found == one
    assert sorted(archive.gets) == ["1.1.1.0", "1.1.1.1", "1.2.1.2"]
    archive.finds = 0
    assert fetch(archive, folder) == Download(3, 0, 0)
    assert archive.finds == 2  # whole studies are not listed again; it ignores ModalitiesInStudy
    assert len(archive.gets) == 3
    assert archive.titles == {"TF-DICOM-CE"}
    assert {p.stat().st_mode & 0o777 for p in files(folder).values()} == {0o600}


@pytest.mark.parametrize(
    ("query", "uids"),
    [
        ({"dates": "20240103"}, ["1.2.1.2"]),
        ({"dates": "20240101-20240102"}, ["1.1.1.0", "1.1.1.1"]),
        ({"description": "liver 2"}, ["1.2.1.2"]),
        ({"modality": "CT"}, ["1.3.1.3"]),
    ],
)
def test_filters(archive, folder, query, uids):
    fetch(archive, folder, **query)
    assert sorted(files(folder)) == uids


def test_an_association_that_breaks_off_is_made_anew(archive, folder):
    archive.breaks = 3
    assert fetch(archive, folder) == Download(3, 3, 0)
    assert len(files(folder)) == 3


def test_an_association_that_always_breaks_off(archive, folder):
    archive.breaks = 99
    with pytest.raises(UserError, match=r"5 times in a row \(.*\).*command continues where"):
        fetch(archive, folder)
    assert not list(folder.rglob("*.dcm"))
    archive.breaks = 0
    assert fetch(archive, folder) == Download(3, 3, 0)
    assert len(files(folder)) == 3  # nothing half-written is left


def test_what_is_refused_is_counted_and_asked_for_the_next_time(archive, folder):
    archive.refuses = 1
    assert fetch(archive, folder) == Download(2, 2, 1)
    assert fetch(archive, folder) == Download(3, 1, 0)


def test_another_instance_than_the_one_asked_for(archive, folder):
    archive.swaps = True  # gives 1.1.1.0 always
    assert fetch(archive, folder) == Download(1, 1, 2)
    assert list(files(folder)) == ["1.1.1.0"]


def test_a_full_disk(archive, folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"cannot be written to \(No space left on device\)"):
            fetch(archive, folder)
    assert not list(folder.rglob("*.dcm"))
    assert fetch(archive, folder) == Download(3, 3, 0)


def test_we_are_not_on_the_list(archive, folder, monkeypatch):
    archive.entity.require_calling_aet = ["WARD"]
    with pytest.raises(UserError, match=r"calling ae title not.*TF-DICOM-CE.*TF_DICOM_CE_PACS_AET"):
        fetch(archive, folder)
    monkeypatch.setenv("TF_DICOM_CE_PACS_AET", "WARD")
    assert fetch(archive, folder) == Download(3, 3, 0)


def test_a_class_that_is_not_offered(archive, folder):
    archive.instances[2].SOPClassUID = RETIRED
    assert fetch(archive, folder) == Download(2, 2, 1)


def test_no_retrieval(archive, folder):
    archive.entity.shutdown()
    archive.entity.remove_supported_context(GET)
    archive.start(FIND, US)
    with pytest.raises(UserError, match=r"offers no C-GET.*tf-dicom-ce receive DIR"):
        fetch(archive, folder)


def test_nobody_is_there(folder):
    archive = Archive()
    archive.url = "dicom://ARCHIVE@127.0.0.1:1"
    with pytest.raises(UserError, match="5 times in a row"):
        fetch(archive, folder)


def test_nothing_matches(archive, folder):
    with pytest.raises(UserError, match="no study of modality US and dates 20230101"):
        fetch(archive, folder, dates="20230101")


@pytest.mark.parametrize(
    "url",
    [
        "dicom://127.0.0.1:104",
        "dicom://A@127.0.0.1",
        "dicom://A@:104",
        "dicom://A:B@host:104",
        "dicom://ABCDEFGHIJKLMNOPQ@host:104",
        "dicom://A@host:104/studies",
        "dicom://A@host:port",
        "dicom://%5C@host:104",
    ],
)
def test_addresses_that_are_refused(url):
    with (
        pytest.raises(UserError, match=r"dicom://ARCHIVE@host:104|1 to 16 characters"),
        connect(url),
    ):
        pass


def test_compressed_pixels_stay_as_they_are(archive, folder):
    one = archive.instances[2]
    one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    from pydicom.encaps import encapsulate

    one.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    one["PixelData"].is_undefined_length = True
    fetch(archive, folder)
    found = dcmread(files(folder)["1.2.1.2"])
    assert found.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert found.PixelData == one.PixelData


def test_what_came_is_forgotten(archive, tmp_path, capfd):
    """All downloads from an address, of any query."""
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "tf-dicom-ce"

    def kept():
        return b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())

    for dates in ("20240101-", "20240103"):
        words = ["index", archive.url, "--pacs-dates", dates, "--run", str(tmp_path / dates)]
        assert main(words) == 0
    assert b"US Liver 2" in kept()
    assert main(["forget", archive.url]) == 0
    assert "headers of 4 files, 0 decoded images, 2 folders of copies" in capfd.readouterr().out
    assert b"US Liver" not in kept()
    assert list((cache / "pacs").iterdir()) == []
    assert list((cache / "files").iterdir()) == []


def test_an_interrupt_leaves_at_once(archive, folder):
    leave = threading.Event()
    archive.stalled = [leave] * 3
    code = (
        "import sys; from pathlib import Path; from tf_dicom_ce.intake.dimse import connect\n"
        "from tf_dicom_ce.intake.download import download, Query\n"
        "try:\n"
        " with connect(sys.argv[1]) as archive:\n"
        "  download(archive, Query(), Path(sys.argv[2]))\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    command = [sys.executable, "-c", code, archive.url, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not archive.gets:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        output, errors = process.communicate(timeout=20)
    leave.set()
    assert time.monotonic() - start < 5
    assert (process.returncode, output) == (0, b"interrupted\n")
    assert b"Traceback" not in errors
    assert fetch(archive, folder) == Download(3, 3, 0)
