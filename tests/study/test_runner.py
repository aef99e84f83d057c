"""Jobs as processes, with a stand-in for training."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study import runner
from tf_dicom_ce.study.protocol import Job
from tf_dicom_ce.study.runner import State, Study, run_all, run_job

STAND_IN = """
import os, sys, time
from pathlib import Path
from tf_dicom_ce.child_process import end_with_parent
end_with_parent()
words = sys.argv[1:]
run = Path(words[words.index("--run") + 1])
run.mkdir(parents=True, exist_ok=True)
with (run / "starts").open("a") as file:
    file.write("x")
if "--encoder" in words and words[words.index("--encoder") + 1] != "none":
    assert Path(words[words.index("--encoder") + 1]).is_dir(), words
if "fail" in words and not (run.parents[2] / "mended").exists():
    print("some words"); sys.exit("it does not work")
time.sleep(float(words[1]))
(run / "export" / "encoder").mkdir(parents=True, exist_ok=True)
(run / "config.json").write_text('{"data_fingerprint": %d}' % words.count("more"))
(run / "result.json").write_text("{}")
"""


def pretraining(name, *words, seconds=0.0):
    return Job(
        f"pretraining/{name}", ("train", str(seconds), *words), None, {"task": "pretraining"}
    )


def head(name, needs, seconds=0.0):
    return Job(f"heads/{name}", ("finetune", str(seconds)), needs, {"task": "segmentation"})


JOBS = (
    head("a", None),
    pretraining("good"),
    head("b", "pretraining/good"),
    pretraining("bad", "fail"),
    head("c", "pretraining/bad"),
    head("d", "pretraining/good"),
)


@pytest.fixture
def study(tmp_path, monkeypatch):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(runner, "_CHILD", (sys.executable, str(script)))
    monkeypatch.setattr(runner, "_POLL", 0.02)
    return Study(tmp_path / "study", JOBS)


def states(study):
    return "".join(study.state(job).value[0] for job in study.jobs)


def starts(study):
    return [
        len((study.place(j.name) / "starts").read_text())
        if (study.place(j.name) / "starts").exists()
        else 0
        for j in study.jobs
    ]


@pytest.mark.parametrize("parallel", [1, 3])
def test_all_that_can_be_done_is_done_once(study, parallel, capsys):
    assert states(study) == "oooooo"
    run_all(study, parallel, retry_failed=False)
    assert states(study) == "dddfbd"
    assert "failed: pretraining/bad" in capsys.readouterr().err.replace("\n", " ")
    failed = study.place("pretraining/bad") / "failed.txt"
    assert failed.read_text() == "it does not work\n"
    run_all(study, parallel, retry_failed=False)
    assert starts(study) == [1, 1, 1, 1, 0, 1]


def test_failed_jobs_are_tried_again_on_request(study):
    run_all(study, 2, retry_failed=False)
    (study.folder / "mended").touch()
    (study.folder / "jobs" / "mended").touch()
    run_all(study, 2, retry_failed=True)
    assert states(study) == "dddddd"
    assert starts(study) == [1, 1, 1, 2, 1, 1]


def test_one_job_alone(study):
    assert run_job(study, JOBS[1]) is State.DONE
    assert run_job(study, JOBS[1]) is State.DONE
    assert run_job(study, JOBS[3]) is State.FAILED
    assert starts(study) == [0, 1, 0, 1, 0, 0]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_runner
from tf_dicom_ce.study import runner
runner._CHILD = (sys.executable, sys.argv[2])
study = runner.Study(Path(sys.argv[3]), (test_runner.pretraining("slow", seconds=60),))
print("go", flush=True)
runner.run_all(study, 2, False)
"""


def is_running(words):
    """Whether the command of any process holds these words."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if words.encode() in command.read_bytes():
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_study_takes_its_jobs_along(study, tmp_path, number):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    words = [os.path.dirname(__file__), tmp_path / "stand_in.py", study.folder]  # noqa: PTH120
    started = study.place("pretraining/slow") / "starts"
    with subprocess.Popen(
        [sys.executable, str(script), *map(str, words)], stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 60
        while not started.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(timeout=30)
    until = time.monotonic() + 20
    while is_running(str(started.parent)):
        assert time.monotonic() < until, "the job lives on"
        time.sleep(0.1)


def test_other_settings_are_refused(tmp_path):
    first = {"name": "a", "seeds": (0,), "options": {"segmentation": {"epochs": 3}}}
    runner.settle(tmp_path, first)
    runner.settle(tmp_path, {**first, "seeds": (0, 1)})
    with pytest.raises(UserError, match=r"other settings. Choose another --out"):
        runner.settle(tmp_path, {**first, "options": {"segmentation": {"epochs": 4}}})
    with pytest.raises(UserError, match="other settings"):  # Δ is not chosen after a look
        runner.settle(tmp_path, {**first, "effect": 0.1})


def test_arms_of_their_own_options_may_be_added(tmp_path):
    before = {"options": {"segmentation": {"epochs": 3}}}
    runner.settle(tmp_path, before)
    weights = {"encoder_weights": "/a/net.keras"}
    runner.settle(tmp_path, {"options": {**before["options"], "imagenet": weights}})
    moved = {"encoder_weights": "/b/net.keras"}
    runner.settle(tmp_path, {"options": {**before["options"], "imagenet": moved}})
    with pytest.raises(UserError, match="other settings"):
        runner.settle(tmp_path, {"options": {"imagenet": {"encoder_weights": "other.keras"}}})


def test_data_may_have_moved(tmp_path):
    def protocol(place, **more):
        pretraining = {"data": place, "tags": f"{place}/mine.toml", "epochs": 3, **more}
        heads = {"data": place, "labels": f"{place}/labels.csv"}
        return {"options": {"pretraining": pretraining, "segmentation": heads}}

    runner.settle(tmp_path, protocol("/a"))
    runner.settle(tmp_path, protocol("/b"))
    settled = json.loads((tmp_path / "protocol.json").read_text())
    assert settled == protocol("/b")
    with pytest.raises(UserError, match="other settings"):
        runner.settle(tmp_path, protocol("/b", width=0.5))
    with pytest.raises(UserError, match="other settings"):
        runner.settle(tmp_path, protocol("/b", tags="/b/other.toml"))


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_job_on_other_data_stops_the_study(study, parallel):
    """The stand-in's word "more" stands for other data."""
    jobs = (pretraining("one"), pretraining("two", "more"), pretraining("three", "more"))
    study = Study(study.folder, jobs)
    with pytest.raises(UserError, match=r"two: its data are not those of .*one; data_fingerprint"):
        run_all(study, parallel, retry_failed=False)
    assert states(study).startswith("dd")
    with pytest.raises(UserError, match="its data are not those of"):
        run_job(study, jobs[2])
