"""The command `serve` as a process."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tf_dicom_ce.cli import main

COMMAND = [sys.executable, "-c", "import sys; from tf_dicom_ce.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("TF_DICOM_CE_SERVE_TOKEN", raising=False)


@contextlib.contextmanager
def process(*words, ready=200):
    """The process and its address, when the models are loaded, or as `ready` says."""
    command = [*COMMAND, "serve", *map(str, words), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            line = server.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
            wait_for(lambda: httpx.get(f"{url}/readyz", verify=False).status_code == ready)
            yield server, url
        finally:
            server.kill()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_finishes_what_is_under_way(repository_folder, tmp_path):
    shutil.copytree(repository_folder / "segmentation", tmp_path / "segmentation")
    said, go_on = threading.Event(), threading.Event()

    def body():
        yield b'{"instances": '
        said.set()
        go_on.wait(30)
        yield b"[]}"

    answers = []

    def ask(url):
        answers.append(httpx.post(f"{url}/v1/models/segmentation:predict", content=body()))

    with (
        process(tmp_path, "--max-body", "1") as (server, url),
        httpx.Client(base_url=url, verify=False) as other,
    ):
        assert other.get("/v1/models/DOE/versions/4242?name=DOE").status_code == 404
        long = other.post("/v1/models/segmentation:predict", content=b"x" * (1 << 21))
        assert long.status_code == 413
        assert json.loads(long.text)["error"] == f"A request has at most {1 << 20} bytes."
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        assert said.wait(30)
        server.send_signal(signal.SIGTERM)
        wait_for(lambda: other.get("/readyz").status_code == 503)
        assert other.get("/healthz").status_code == 200  # a load balancer has time to notice
        wait_for(lambda: refused(url))
        assert server.poll() is None
        go_on.set()
        client.join()
        out, log = server.communicate(timeout=30)
    assert [answer.status_code for answer in answers] == [400]
    assert "instances has to be a list" in answers[0].json()["error"]
    assert server.returncode == 0
    assert "POST /v1/models/{name}:predict model=segmentation version=1 400" in log
    assert "DOE" not in log and "4242" not in log and "Traceback" not in log
    assert out == ""


def refused(url):
    try:
        httpx.get(f"{url}/readyz", verify=False)
    except httpx.ConnectError:
        return True
    return False


def test_a_repository_that_fills_later_and_ctrl_c(repository_folder, tmp_path):
    with process(tmp_path, ready=503) as (server, url):
        assert httpx.get(f"{url}/healthz", verify=False).status_code == 200
        assert httpx.get(f"{url}/v1/models", verify=False).json() == {"models": []}
        shutil.copytree(repository_folder / "classification", tmp_path / "classification")
        wait_for(lambda: httpx.get(f"{url}/readyz", verify=False).status_code == 200)
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=30)
    assert server.returncode == 130
    assert "serve: stopped." in log and "Traceback" not in log


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--host", "0.0.0.0"], "TF_DICOM_CE_SERVE_TOKEN=$(openssl rand -hex 32)"),
        (["--host", "::"], "TF_DICOM_CE_SERVE_TOKEN"),
        (["--port", "70000"], "choose 1 to 65535"),
        (["--max-body", "0"], "--max-body 0"),
        (["--timeout", "-1"], "--timeout -1.0: choose a number above 0"),
        (["--threads", "0"], "choose 1 or more"),
        (["--queue", "-1"], "choose 0 or more"),
        (["/nowhere"], "/nowhere: no such folder"),
        (["/nowhere", "--selftest"], "/nowhere: no model here"),
    ],
)
def test_mistakes(capsys, words, remedy):
    assert main(["serve", *words]) == 2
    assert remedy in capsys.readouterr().err


def test_an_address_in_use(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(tmp_path), "--port", str(port)]) == 2
    message = capsys.readouterr().err
    assert f"--port {port}" in message and "Choose another port" in message


def test_a_token_opens_other_hosts(monkeypatch, capsys):
    monkeypatch.setenv("TF_DICOM_CE_SERVE_TOKEN", "s3cret")
    assert main(["serve", "/nowhere", "--host", "0.0.0.0"]) == 2
    message = capsys.readouterr().err
    assert "no such folder" in message and "s3cret" not in message


def test_selftest(capsys, repository_folder):
    assert main(["serve", str(repository_folder), "--selftest"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["classification", "1"], ["segmentation", "1"]]


def test_help(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    for word in ("127.0.0.1", "TF_DICOM_CE_SERVE_TOKEN", "application/dicom", "/docs", "SIGTERM"):
        assert word in text
    assert "\\\n" in text  # the shell's, not swallowed by Python
