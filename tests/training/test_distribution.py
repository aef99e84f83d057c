"""Two replicas equal one device at the same global batch (see `distributed_run.py`)."""

import json
import os
import socket
import subprocess
import sys
import time
import weakref
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.training.devices import other_workers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("semaphores")]
SCRIPT = Path(__file__).with_name("distributed_run.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory, semaphores):
    """What one process has got on one device and on two: results(case, devices)."""
    folder = tmp_path_factory.mktemp("results")
    subprocess.run([sys.executable, SCRIPT, folder], check=True, timeout=600, capture_output=True)
    return lambda case, devices: dict(np.load(folder / f"{case}-{devices}.npz"))


def start_workers(*command, log):
    """Two processes of one cluster on loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        with log.with_suffix(f".{index}").open("ab") as file:
            environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
            processes.append(
                subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=file)
            )
    return processes


def said(log, index):
    return log.with_suffix(f".{index}").read_text()


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)


def test_two_replicas_equal_one_device(results):
    """Weights of F and D, both Adams' slots and all logs after 20 steps, the last of 3 + 2 rows."""
    assert_equal(results("all options", 1), results("all options", 2))


@pytest.mark.parametrize("case", ["synchronised", "classification", "segmentation"])
def test_two_replicas_of_half_a_batch_equal_one_of_the_whole(results, case):
    """Gradients of 3 + 2 rows (or Adam's moments), moving statistics and logs, synchronised.

    They are up to .0005 of a gradient apart, by rounding. Unsynchronised, that of a head is .16 or
    more in the middle.
    """
    one, two = results(case, 1), results(case, 2)
    assert one.keys() == two.keys()
    for name in one:
        # An Adam's first step is the gradient's sign, that of a sum which may be about 0.
        if not name.startswith("weight"):
            most = 1e-3 if name.startswith(("loss", "train")) else 0.01
            apart = np.linalg.norm(two[name] - one[name])
            assert apart <= most * np.linalg.norm(one[name]) + 1e-7, name


def test_two_workers_equal_one_device(results, tmp_path):
    """The same of the paper's losses and of processes."""
    log = tmp_path / "log"
    for k, worker in enumerate(start_workers(sys.executable, SCRIPT, tmp_path, log=log)):
        assert worker.wait(timeout=300) == 0, said(log, k)
    assert_equal(results("paper", 1), dict(np.load(tmp_path / "workers.npz")))


def test_batch_norm_and_loss_scales_move_alike_in_both_replicas(results):
    result = results("batch norm", 2)
    assert all(np.isfinite(value).all() for value in result.values())
    assert result["train rec"] > 0


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
def test_a_lost_worker_leaves_no_pool_of_threads_behind():
    """What lives until the end of the process speaks up there, in the place of our one message."""
    pools = []

    def reduce_as_tensorflow_does():
        pool = ThreadPool(1)
        pools.append(weakref.ref(pool))
        pool.map(fail, [None])

    def fail(_):
        raise tf.errors.UnavailableError(None, None, "connection reset")

    cluster = SimpleNamespace(cluster_resolver=SimpleNamespace(task_type="worker"))
    with (
        pytest.raises(UserError, match="another worker has stopped") as kept,
        other_workers(cluster),
    ):
        reduce_as_tensorflow_does()
    assert kept.value and pools[0]() is None


def test_a_lost_worker_ends_the_other_and_the_job_goes_on(tmp_path, write):
    rng = np.random.default_rng(0)
    for k in range(20):
        pixels = (60 + rng.integers(0, 90, (40, 60))).astype(np.uint8)
        write(
            f"data/{k:02d}", pixels, PatientID=str(k % 5), TransducerData=("C5-1", "L12-5")[k % 2]
        )
    log, folder = tmp_path / "log", tmp_path / "run"
    words = "--preset quick --image-size 32 32 --width 0.03125 --batch-size 4 --lambda-rec 0"
    words += " --lambda-adv 0 --lambda-tags 1 --epochs 400"  # an encoder and its head are small
    command = [
        *(Path(sys.executable).with_name("tf-dicom-ce"), "train", "--data", tmp_path / "data"),
        *("--run", folder, "--export", tmp_path / "export", "--resume"),
        *("--strategy", "multiworker", *words.split()),
    ]
    chief, other = start_workers(*command, log=log)
    until = time.monotonic() + 200
    while len(list(folder.glob("checkpoints/*.npz"))) < 2:
        assert time.monotonic() < until, said(log, 0)
        assert chief.poll() is None, said(log, 0)
        time.sleep(0.2)
    other.kill()
    other.wait()
    assert chief.wait(timeout=120) == 2
    assert "another worker has stopped" in said(log, 0)
    assert "--resume" in said(log, 0)
    assert "Traceback" not in said(log, 0)

    # One step more than was done: they have to go on, not to start anew.
    newest = max(folder.glob("checkpoints/*.npz"))
    epochs = int(newest.stem.partition("-")[2]) // 4
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "epochs": epochs + 1}))
    command[-1] = epochs + 1
    for k, worker in enumerate(start_workers(*command, log=log)):
        assert worker.wait(timeout=300) == 0, said(log, k)
        assert "Store: 0 images decoded" in said(log, k)  # they share what the first ones decoded
    history = (folder / "history.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in history[1:]] == [
        str(k + 1) for k in range(epochs + 1)
    ]
    assert (tmp_path / "export" / "encoder" / "1").is_dir()
