"""The wheel in an environment of its own: without extras, then with them, from an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
WITHOUT_EXTRAS = """
import sys
for name in ("starlette", "uvicorn", "prometheus_client", "orjson", "highdicom", "matplotlib"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment with the wheel; what it needs it borrows from that of the tests."""
    source = tmp_path_factory.mktemp("source")
    for name in ("tf_dicom_ce", "export"):
        ignored = shutil.ignore_patterns("__pycache__", "[0-9]*")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    borrowed = sysconfig.get_path("purelib")
    (site / "borrowed.pth").write_text(f"{borrowed}\nimport without_extras\n")
    (site / "without_extras.py").touch()
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", str(source)], check=True, timeout=300)
    return folder


@pytest.fixture
def run(environment, tmp_path):
    """Runs a command of the wheel in an empty folder; returns exit code and output."""
    folder = tmp_path / "empty"
    folder.mkdir()

    def run_command(command, *words, extras):
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "without_extras.py").write_text("" if extras else WITHOUT_EXTRAS)
        names = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        words = [environment / "bin" / command, *words]
        done = subprocess.run(
            words, cwd=folder, env=names, capture_output=True, text=True, timeout=300
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run_command


def test_trains_without_extras(run, write, tmp_path):
    rng = np.random.default_rng(0)
    for k in range(8):
        pixels = rng.integers(0, 200, (40, 60), np.uint8)
        write(f"data/{k}", pixels, PatientID=str(k % 4), StudyDescription="US LIVER")
    words = "--preset quick --image-size 32 32 --width 0.03125 --epochs 1 --batch-size 4"
    code, out = run(
        "tf-dicom-ce", "train", "--data", tmp_path / "data", *words.split(), extras=False
    )
    assert code == 0, out
    assert (tmp_path / "empty" / "export" / "encoder" / "1" / "saved_model.pb").exists()
    (run_folder,) = (tmp_path / "empty" / "runs").iterdir()
    assert (run_folder / "coverage.html").exists()


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_extras_that_are_missing_are_named(run, heads, write, ramp, tmp_path, command):
    write("data/a", ramp)
    words = {
        "predict": [tmp_path / "data", "--out", "out", "--model", heads / "segmentation"],
        "serve": [heads],
    }
    code, out = run("tf-dicom-ce", command, *words[command], extras=False)
    assert code == 2
    assert "which is not installed. In a checkout: pip install '.[serve]'; elsewhere" in out


#: Predicts as the command does, and then has all models answer their golden inputs.
ANSWERS = """
import sys
from tf_dicom_ce.cli import main
data, heads = sys.argv[1:]
words = ["--out", "out", "--model", heads + "/segmentation"]
sys.exit(main(["predict", data, *words]) or main(["serve", heads, "--selftest"]))
"""


def test_predicts(run, heads, write, ramp, tmp_path):
    write("data/a", ramp, StudyDescription="US LIVER")
    code, out = run("python", "-c", ANSWERS, tmp_path / "data", heads, extras=True)
    assert code == 0, out
    for kind in ("seg", "sr"):
        assert len(list((tmp_path / "empty" / "out" / kind).iterdir())) == 1


def ask(url):
    """The status of an answer."""
    try:
        return urllib.request.urlopen(url, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def test_serves(run, environment, heads, tmp_path):
    """The client that the docs name is in the wheel."""
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "without_extras.py").write_text("")
    names = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [environment / "bin" / "tf-dicom-ce", "serve", heads, "--port", "0"],
        env=names,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            line = next(line for line in server.stdout if "http://" in line)
            url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
            while ask(f"{url}/readyz") != 200:
                time.sleep(0.1)
            with urllib.request.urlopen(f"{url}/v1/models/segmentation", timeout=60) as answer:
                assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"
        finally:
            server.terminate()
    shipped = environment / "share" / "tf-dicom-ce" / "export"
    assert {path.name for path in shipped.iterdir() if path.is_file()} == {
        path.name for path in (ROOT / "export").iterdir() if path.is_file()
    }
    code, out = run("python", shipped / "client.py", "--help", extras=False)
    assert code == 0
    assert "usage" in out
