"""What DCMTK's storescu pushes, in a network namespace of its own."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tf_dicom_ce.cli import main

pytestmark = pytest.mark.pacs

NUMBER = 12
STORED = (0, "")  # of storescu
# Slowed down, so that there is a midway.
RECEIVE = """
import sys, time
from tf_dicom_ce.cli import main
from tf_dicom_ce.intake import receiver
def holds(*arguments, holds=receiver.holds):
    time.sleep(0.1)
    return holds(*arguments)
receiver.holds = holds
sys.exit(main(["receive", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def sent(tmp_path_factory, build):
    """A study of files of 1 MiB."""
    folder = tmp_path_factory.mktemp("sent")
    rng = np.random.default_rng(4)
    for k in range(NUMBER):
        dataset = build(rng.integers(0, 256, (1024, 1024), np.uint8))
        dataset.StudyInstanceUID, dataset.PatientName = "1.2", "Doe"
        dataset.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
    return folder


def wait_until(true):
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)


class Receiver:
    """A process `tf-dicom-ce receive` at a port of its own, with its log beside the folder."""

    def __init__(self, network, folder, log, words, prefix):
        self.folder, self.log = folder, log
        command = [sys.executable, "-W", "error", "-c", RECEIVE, str(folder), "--port", "0", *words]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                network.inside(*prefix, *command), stdout=output, stderr=output
            )
        wait_until(lambda: "Ctrl-C stops" in log.read_text())
        self.port = log.read_text().partition(". Ctrl-C")[0].rpartition(":")[2]

    def files(self):
        return sorted(self.folder.rglob("*.dcm"))

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=20), self.log.read_text().partition("\n")[2]


@pytest.fixture
def start(network, tmp_path):
    started = []

    def start(*words, folder=tmp_path / "inbox", prefix=()):
        log = tmp_path / f"{len(started)}.log"
        started.append(Receiver(network, folder, log, words, prefix))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def push(network, dcmtk):
    """Has storescu send a folder; returns its exit code and what it says."""

    def push(receiver, sent, title="US1", called="TF-DICOM-CE"):
        command = [dcmtk("storescu"), "-aet", title, "-aec", called, "127.0.0.1", receiver.port]
        done = subprocess.run(
            network.inside(*command, "+sd", str(sent)), capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr

    return push


def same(received, sent):
    found = {dcmread(path).SOPInstanceUID: dcmread(path) for path in received}
    return all(found.get(d.SOPInstanceUID) == d for d in map(dcmread, sent.iterdir()))


def test_what_is_pushed_is_there_and_is_indexed(start, push, sent, tmp_path, capfd):
    receiver = start()
    assert push(receiver, sent) == STORED
    assert len(receiver.files()) == NUMBER
    assert same(receiver.files(), sent)
    assert {path.stat().st_mode & 0o777 for path in receiver.files()} == {0o600}
    assert push(receiver, sent) == STORED  # the same once more
    assert len([path for path in receiver.folder.rglob("*") if path.is_file()]) == NUMBER
    code, said = receiver.end()
    assert code == 0
    assert said.splitlines() == [f"{NUMBER} instances from 'US1'"] * 2
    assert main(["index", str(receiver.folder), "--run", str(tmp_path / "run")]) == 0
    assert f"{NUMBER} images" in capfd.readouterr().out


def test_a_receiver_that_is_killed_loses_nothing(start, push, sent):
    receiver = start()
    sender = threading.Thread(target=lambda: said.append(push(receiver, sent)))
    said = []
    sender.start()
    wait_until(lambda: len(receiver.files()) >= 4)
    receiver.end(signal.SIGKILL)
    sender.join()
    assert said[0][0] != 0  # so that the sender tries again
    assert 4 <= len(receiver.files()) < NUMBER
    receiver = start()
    assert push(receiver, sent) == STORED
    assert same(receiver.files(), sent)
    assert len([path for path in receiver.folder.rglob("*") if path.is_file()]) == NUMBER


def test_an_association_that_breaks_off(start, sent, network, dcmtk):
    receiver = start()
    command = network.inside(dcmtk("storescu"), "-aec", "TF-DICOM-CE", "127.0.0.1", receiver.port)
    with subprocess.Popen([*command, "+sd", str(sent)], stderr=subprocess.DEVNULL) as sender:
        wait_until(lambda: len(receiver.files()) >= 2)
        time.sleep(0.05)  # in the middle of the third, which is kept all the same
        sender.kill()
    time.sleep(1)
    code, said = receiver.end()
    assert code == 0
    number = len(receiver.files())
    assert said == f"{number} instances from 'STORESCU'; the association broke off\n"
    assert all(len(dcmread(path).PixelData) == 1 << 20 for path in receiver.files())
    assert not list(receiver.folder.rglob("*.part"))


def test_a_title_that_is_not_on_the_list(start, push, sent):
    receiver = start("--from", "US1", "--from", "US2")
    assert "Calling AE Title Not Recognized" in push(receiver, sent, "US3")[1]
    assert "Called AE Title Not Recognized" in push(receiver, sent, called="OTHER")[1]
    assert receiver.files() == []
    assert push(receiver, sent, "US2") == STORED
    _, said = receiver.end()
    assert said.splitlines() == [
        "Refused an association from 'US3' to 'TF-DICOM-CE': calling ae title not recognised",
        "Refused an association from 'US1' to 'OTHER': called ae title not recognised",
        f"{NUMBER} instances from 'US2'",
    ]


def test_a_full_disk(start, push, sent, tmp_path, may_mount):
    """Without space, instances are refused, with one message, and accepted once there is some."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=260m tmpfs {disk} && exec "$@"'
    receiver = start(folder=disk / "inbox", prefix=("unshare", "-m", "sh", "-c", script, "sh"))
    assert push(receiver, sent) == (0xA7, "")  # the first byte of A700H
    inside = ["nsenter", f"--mount=/proc/{receiver.process.pid}/ns/mnt", "sh", "-c"]

    def files():
        command = [*inside, f"find {disk}/inbox -type f"]
        return subprocess.run(command, capture_output=True, text=True).stdout.split()

    there = files()
    assert 1 <= len(there) < 4
    assert all(name.endswith(".dcm") for name in there)
    subprocess.run([*inside, f"mount -o remount,size=400m {disk}"], check=True)
    assert push(receiver, sent) == STORED
    assert len(files()) == NUMBER
    code, said = receiver.end()
    assert code == 0
    assert said.count("cannot be written to (less than 256 MiB are free)") == 1


def test_it_listens_here_alone(start, network):
    receiver = start()
    tables = [Path(f"/proc/{network.holder.pid}/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    listening = {line[1] for line in lines if line[3] == "0A"}
    assert f"0100007F:{int(receiver.port):04X}" in listening
    assert all(address.startswith("0100007F") for address in listening)


def test_mistakes(start, capfd, tmp_path):
    def message(*words):
        assert main(["receive", *map(str, words)]) == 2
        err = capfd.readouterr().err
        assert len(err.splitlines()) == 1
        return err

    folder = tmp_path / "inbox"
    assert "other machines can reach it" in message(folder, "--host", "0.0.0.0")
    assert "not an AE title" in message(folder, "--aet", "A" * 17)
    assert "not an AE title" in message(folder, "--from", "")
    assert not folder.exists()
    (tmp_path / "file").touch()
    assert "cannot be written to (File exists)" in message(tmp_path / "file")
    assert "Choose another port" in message(folder, "--port", "99999")
    start(folder=folder)
    assert "another process receives there" in message(folder)
