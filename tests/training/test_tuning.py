"""The search with trials that take no time: a script in the place of `train`."""

import csv
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tf_dicom_ce.cli import main, tune
from tf_dicom_ce.config import PRESETS, PretrainConfig
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.tuning import space
from tf_dicom_ce.tuning.oracle import SearchOracle
from tf_dicom_ce.tuning.search import Plan, search
from tf_dicom_ce.whole_files import sole

# keras-tuner 1.4.8 calls threading.currentThread
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: A trial: λ = 0.1 is best; `--fail 1,2` fails these, `--die` is killed, `--pause` takes time.
TRIAL = """
import json, math, os, sys, time, tomllib
from pathlib import Path

folder, words = Path(sys.argv[1]), sys.argv[2:]
options = dict(zip(words[::2], words[1::2]))
with (folder / "starts").open("a") as file:
    file.write("start\\n")
config = tomllib.loads((folder / "config.toml").read_text())
time.sleep(float(options.get("--pause", 0)))
if folder.name in options.get("--fail", "").split(","):
    print("Traceback")
    sys.exit("a loss is not finite\\n\\n")
if folder.name == options.get("--die"):
    os.kill(os.getpid(), 9)
prints = {"data_fingerprint": options.get("--images", "a"), "split_fingerprint": "b"}
(folder / "config.json").write_text(json.dumps(prints))
rec = abs(math.log10(config["lambda_adv"]) + 1) + 0.1 * config["width"]
result = {"best_epoch": 1, "validation": {"rec": rec}}
(folder / "result.json").write_text(json.dumps(result))
"""

#: A search in a process of its own, with the trial above in the real process of a trial.
SEARCH = """
import sys
from pathlib import Path
from tf_dicom_ce.cli import main, tune

tune.COMMAND = (sys.executable, sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""
GUARDED = """
import runpy, sys
from pathlib import Path
from tf_dicom_ce.cli.tune_trial import run

def train(words):
    sys.argv = ["", words[words.index("--run") + 1], "--pause", "0.3"]
    runpy.run_path(str(Path(__file__).with_name("trial.py")))
    return 0

sys.exit(run(Path(sys.argv[1]), sys.argv[2:], train))
"""


@pytest.fixture
def plan(tmp_path):
    """A plan for a number of trials of two settings."""
    script = tmp_path / "trial.py"
    script.write_text(TRIAL)

    def make(trials, *words, names=("lambda_adv", "width"), name="search"):
        command = (sys.executable, "-S", str(script))
        return Plan(
            tmp_path / name, PRESETS["quick"], names, trials, command, words, dict(os.environ)
        )

    return make


def starts(folder):
    """Trial -> how often it was started."""
    found = {p.parent.name: p.read_text().count("start") for p in folder.glob("trials/*/starts")}
    return dict(sorted(found.items()))


def test_every_trial_counts_once_and_the_best_is_kept(plan, capsys):
    rows = search(plan(6))
    assert sorted(row.trial for row in rows) == list("012345")
    assert [row.score for row in rows] == sorted(row.score for row in rows)
    assert starts(plan(6).folder) == dict.fromkeys("012345", 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("1 of 6: trial 0 L_rec ")
    assert " left" in lines[0]
    assert " left" not in lines[5]

    with (plan(6).folder / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["trial"] for row in table] == [row.trial for row in rows]
    best = tomllib.loads((plan(6).folder / "best.toml").read_text())
    assert best["lambda_adv"] == rows[0].values["lambda_adv"]
    assert best["lambda_rec"] == pytest.approx(1 - best["lambda_adv"])
    assert best["epochs"] == 20


def test_the_first_trial_is_the_preset(plan):
    search(plan(1))
    config = tomllib.loads((plan(1).folder / "trials" / "0" / "config.toml").read_text())
    assert PretrainConfig(**config) == PRESETS["quick"]


def test_values_keep_their_types(plan):
    names = list(space.SPACE)
    for row in search(plan(5, names=names)):
        for name, value in row.values.items():
            assert type(value) is type(getattr(PRESETS["quick"], name)), name


def test_later_trials_are_drawn_to_the_optimum(plan):
    rows = search(plan(14, names=("lambda_adv",)))
    assert rows[0].values["lambda_adv"] == pytest.approx(0.1, rel=0.2)


def test_a_failed_trial_is_noted_and_the_search_goes_on(plan, capsys):
    rows = search(plan(5, "--fail", "1,2,3"))
    assert [row.status for row in rows] == ["completed"] * 2 + ["failed"] * 3
    assert {row.error for row in rows[2:]} == {"a loss is not finite"}
    assert "trial 1 failed: a loss is not finite" in capsys.readouterr().out
    again = search(plan(5, "--fail", "1,2,3"))
    assert again == rows
    assert starts(plan(5).folder) == dict.fromkeys("01234", 1)


def test_a_killed_trial_names_the_signal(plan):
    rows = search(plan(2, "--die", "1"))
    assert rows[1].error == "ended by SIGKILL"


def test_three_failures_at_the_start_end_the_search(plan):
    with pytest.raises(UserError, match="The first 3 trials failed, the last with: a loss is not"):
        search(plan(9, "--fail", "0,1,2"))


def test_more_trials_can_be_asked_for_later(plan):
    assert len(search(plan(3))) == 3
    assert len(search(plan(6))) == 6
    assert set(starts(plan(6).folder).values()) == {1}
    assert len(search(plan(3))) == 6


def test_data_may_lie_elsewhere_at_the_next_start(plan):
    """What they are, the trials' fingerprints say."""
    here, there, others = (
        dataclasses.replace(plan(trials), places=("--images", images, "--data", place))
        for trials, place, images in ((1, "here", "a"), (2, "there", "a"), (3, "there", "z"))
    )
    assert [len(search(p)) for p in (here, there)] == [1, 2]
    with pytest.raises(UserError, match="data_fingerprint: a then, z now"):
        search(others)


def test_another_space_or_other_data_are_refused(plan):
    search(plan(1))
    with pytest.raises(UserError, match="other settings") as caught:
        search(plan(1, names=("lambda_adv", "adversarial")))
    assert "search: " in str(caught.value)
    with pytest.raises(UserError, match=r"train: \[\] then, \['--data', 'b'\] now"):
        search(plan(1, "--data", "b"))


def test_images_that_changed_end_the_search(plan):
    search(plan(1))
    script = Path(plan(1).command[-1])
    script.write_text(TRIAL.replace('"--images", "a"', '"--images", "z"'))
    with pytest.raises(UserError, match="data_fingerprint: a then, z now"):
        search(plan(2))


def test_a_folder_with_something_else_is_refused(plan):
    plan(1).folder.mkdir()
    (plan(1).folder / "notes.txt").write_text("a note")
    with pytest.raises(UserError, match="holds no search"):
        search(plan(1))


def test_two_searches_in_one_folder_are_refused(plan):
    plan(1).folder.mkdir()
    lock = plan(1).folder / "lock"
    with sole(lock, ""), pytest.raises(UserError, match="another search is using this folder"):
        search(plan(1))


def test_a_space_with_few_points_ends_early(plan):
    rows = search(plan(9, names=("discriminator_input",)))
    assert {row.values["discriminator_input"] for row in rows} == {"patch", "composite"}
    assert len(rows) == 2


@pytest.mark.slow
def test_memory_stays_flat(plan, monkeypatch):
    sizes = []
    end_trial = SearchOracle.end_trial

    def measure(oracle, trial):
        end_trial(oracle, trial)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)

    monkeypatch.setattr(SearchOracle, "end_trial", measure)
    search(plan(18, names=("lambda_adv",)))
    assert len(sizes) == 18
    # From the 7th on the Gaussian process is at work; less than half a megabyte a trial.
    assert sizes[-1] - sizes[7] < 10 * 0.44e6


@pytest.mark.parametrize("cut", ["before the oracle's file", "before the trial's file"])
def test_a_kill_between_two_files_loses_no_trial(plan, monkeypatch, cut):
    """The trial's file and the oracle's are written one after the other."""

    class KilledError(BaseException):
        pass

    save, calls = SearchOracle.save, []

    def kill(oracle):
        calls.append(1)
        if len(calls) == (5 if cut == "before the oracle's file" else 6):
            raise KilledError
        save(oracle)

    with monkeypatch.context() as patch:
        patch.setattr(SearchOracle, "save", kill)
        with pytest.raises(KilledError):
            search(plan(4))
    rows = search(plan(4))
    assert sorted(row.trial for row in rows) == list("0123")
    assert all(row.status == "completed" for row in rows)


def test_killed_at_random_it_goes_on(tmp_path, monkeypatch, capsys):
    scripts = {"trial.py": TRIAL, "guarded.py": GUARDED, "search.py": SEARCH}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    folder = tmp_path / "search"
    words = "tune --data none --preset quick --trials 3 --search lambda_adv,width --seed 3 --run"
    words = [*words.split(), str(folder)]
    command = [sys.executable, tmp_path / "search.py", tmp_path / "guarded.py", *words]

    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moment = random.Random(seed).uniform(0, 2)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not (folder / "trials").exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)

    monkeypatch.setattr(tune, "COMMAND", (sys.executable, str(tmp_path / "guarded.py")))
    assert main(words) == 0
    assert "Best settings" in capsys.readouterr().out
    with (folder / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert sorted(row["trial"] for row in table) == list("012")
    assert all(row["status"] == "completed" for row in table)
    counts = starts(folder).values()
    assert sum(counts) in (3, 4)  # at most the one that was under way began again


def test_names_to_search():
    assert space.choose("width, lambda-adv", []) == ["lambda_adv", "width"]
    assert "width" not in space.choose(None, ["width"])
    with pytest.raises(UserError, match=r"--search depth: choose from lambda_adv, "):
        space.choose("depth", [])
    with pytest.raises(UserError, match="leave out --width"):
        space.choose("width", ["width"])
    with pytest.raises(UserError, match="Nothing is left"):
        space.choose(" ", [])


def test_the_space_lies_around_the_preset():
    found = space.resolve(list(space.SPACE), PRESETS["quick"])
    assert found["width"] == {"values": [0.0625, 0.125, 0.25], "default": 0.25}
    assert found["g_learning_rate"]["low"] == pytest.approx(1e-4)
    assert json.loads(json.dumps(found)) == found
    config = space.configuration(PRESETS["quick"], {"lambda_adv": 0.0123456, "width": 0.0625})
    assert (config.lambda_adv, config.lambda_rec, config.width) == (0.0123, 0.9877, 0.0625)
