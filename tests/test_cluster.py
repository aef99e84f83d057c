"""A Dask cluster of two worker processes gives what this machine's own processes give."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from distributed import LocalCluster

from tf_dicom_ce import workers
from tf_dicom_ce.cli import main
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import examination
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.workers import Outage, cluster, guarded_map

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Dask's sockets


@pytest.fixture(scope="module")
def dask(semaphores):
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as started:
        yield started


def work(item):
    if item == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "raise":
        raise ValueError("on purpose")
    time.sleep(0.01 if isinstance(item, int) else 0)
    return os.getppid() if item == "who" else item * 2


def died(outage):
    return outage


def test_results_come_in_order_and_a_death_costs_one_item(dask):
    items = [*range(60), "die", *range(60, 100)]
    expected = [*(2 * k for k in range(60)), Outage.DIED, *(2 * k for k in range(60, 100))]
    with cluster(dask.scheduler_address):
        assert list(guarded_map(work, items, died, chunk=1)) == expected
        assert list(guarded_map(work, [], died)) == []
    assert workers._client is None


def test_an_exception_reaches_the_caller(dask):
    with cluster(dask.scheduler_address), pytest.raises(ValueError, match="on purpose"):
        list(guarded_map(work, [1, "raise"], died))


def test_a_partition_of_a_lost_worker_is_done_again(dask):
    lost = []

    def kill():
        time.sleep(0.5)
        process = next(iter(dask.workers.values())).process
        lost.append(process.pid)
        os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with cluster(dask.scheduler_address):
        killer.start()
        found = list(guarded_map(work, range(300), died, chunk=1))
        killer.join()
    assert found == [2 * k for k in range(300)]
    assert lost


def test_without_a_scheduler_the_command_is_to_be_given_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address, quietly = f"tcp://127.0.0.1:{port}", {"stderr": subprocess.DEVNULL}
    dask = (sys.executable, "-m", "distributed.cli.dask_")
    words = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
    scheduler = subprocess.Popen([*dask[:2], f"{dask[2]}scheduler", *words], **quietly)
    words = (address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    worker = subprocess.Popen([*dask[:2], f"{dask[2]}worker", *words], **quietly)
    done = []
    try:
        with (
            cluster(address),  # waits for both, as where one job starts all three
            pytest.raises(UserError, match="has lost its scheduler or its workers"),
        ):
            for one in guarded_map(work, range(3000), died, chunk=1):
                done.append(one)
                scheduler.kill()
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    assert 0 < len(done) < 3000


def test_items_are_taken_as_needed(dask):
    taken = []

    def items():
        for k in range(10_000):
            taken.append(k)
            yield k

    with cluster(dask.scheduler_address):
        results = guarded_map(work, items(), died, chunk=1)
        next(results)
        results.close()
    assert len(taken) <= 2 * 2 * workers._PARTITION + workers._PARTITION


def test_an_index_is_the_same(dask, write, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(examination, "_IN_PROCESS", 10)
    for k in range(40):
        study = ("US LIVER", "US CHEST", "odd")[k % 3]
        pixels = np.full((2, 2), k, np.uint8)
        write(f"in/{k % 4}/{k}", pixels, PatientID=f"P{k % 9}", StudyDescription=study)
    (tmp_path / "in/0/x").write_text("no image")
    schema = TagSchema.load("ultrasound")
    here = scan(tmp_path / "in", schema, cache=tmp_path / "here")
    with cluster(dask.scheduler_address):
        there = scan(tmp_path / "in", schema, cache=tmp_path / "there")
    assert (there, there.read) == (here, 41)
    said = capfd.readouterr().err
    assert "Dask dashboard: " in said
    assert "P1" not in said


def test_mistakes(write, ramp, tmp_path, capsys, dask, monkeypatch):
    write("in/a", ramp)
    monkeypatch.setattr(workers, "_JOINING", 1)
    assert main(["index", str(tmp_path / "in"), "--engine", "tcp://127.0.0.1:9"]) == 2
    assert "--engine tcp://127.0.0.1:9: no Dask scheduler there (" in capsys.readouterr().err
    assert main(["index", str(tmp_path / "in"), "--engine", "nowhere"]) == 2
    assert "--engine nowhere: no Dask scheduler there" in capsys.readouterr().err
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as none,
        pytest.raises(UserError, match="no worker came within 1 s"),
        cluster(none.scheduler_address),
    ):
        pass
    monkeypatch.setattr(workers, "_JOINING", 60)
    monkeypatch.setattr(workers, "__version__", "9.9")
    with (
        pytest.raises(UserError, match=r"its workers have tf-dicom-ce 0.*, this computer has 9.9"),
        cluster(dask.scheduler_address),
    ):
        pass
