"""Every benchmark is listed, tells its options at once, and keeps what it measures."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import MEASURED  # noqa: E402
from benchmarks.__main__ import listing, main  # noqa: E402
from benchmarks.rounds import Rounds  # noqa: E402

sys.path.remove(str(ROOT))

#: What benchmarks share, or what runs as a part of one.
PARTS = {
    *("contender", "dicom_encoders", "elsewhere", "hostile_requests", "learning", "plot", "rounds"),
    *("served", "sizes", "tables", "turns", "watched"),
}
HELP = """
import contextlib, io, sys
from benchmarks.__main__ import main
for name in sys.argv[1:]:
    told = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(told):
        main([name, "--help"])
    assert "usage: python -m benchmarks " + name in told.getvalue(), name
    assert "tensorflow" not in sys.modules, name + " --help loads TensorFlow"
"""


def test_every_module_is_listed():
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "__main__"}
    assert set(listing()) == modules - PARTS
    assert [*listing()][: len(MEASURED)] == list(MEASURED)


def test_a_line_tells_what_it_is_and_how_long_it_takes(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out.splitlines()
    for name, line in listing().items():
        assert line.endswith((" min).", "(seconds).")), name
        assert f"{name:16}  {line}" in told
        assert len(line) + 18 <= 120, name


def test_help_needs_no_tensorflow():
    names = [*listing(), "all"]
    subprocess.run([sys.executable, "-c", HELP, *names], check=True, cwd=ROOT, timeout=120)


def test_an_unknown_name_is_refused(capsys):
    assert main(["nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def counted(seconds):
    """Rounds of one side, each of which took so long."""
    return ((seconds, {"a": [{"seconds": float(k)}]}) for k in itertools.count())


def measured(file, seconds, conditions=None, **how):
    """Runs a benchmark of two stages, in which a round takes `seconds`; what is kept."""
    rounds = Rounds(file)
    rounds.begin(conditions or {"code": "1", "date": "today"})
    for stage in rounds.lacking({"long": 60, "short": 20}, **{"least": 2, **how}):
        stage.keep(counted(seconds))
    return {name: len(stage.rounds) for name, stage in Rounds(file).stages.items()}


def test_rounds_are_measured_until_there_is_enough(tmp_path):
    assert measured(tmp_path / "a.jsonl", 15) == {"long": 4, "short": 2}
    assert measured(tmp_path / "b.jsonl", 500) == {"long": 2, "short": 2}


def test_a_run_that_is_given_again_goes_on(tmp_path):
    """It begins with the stage that lacks most; a line that was cut off is written anew."""
    file = tmp_path / "a.jsonl"
    rounds = Rounds(file)
    rounds.begin({"code": "1", "date": "yesterday"})
    stage = next(rounds.lacking({"long": 60, "short": 20}, least=2))
    stage.tell(images=8)
    with pytest.raises(ZeroDivisionError):
        stage.keep((30 / (k < 1), {"a": [{"seconds": 7.0}]}) for k in range(2))
    with file.open("a") as end:
        end.write('{"stage": "long", "round": {"a": [{"sec')
    assert [str(stage) for stage in Rounds(file).stages.values()] == ["1 round in 30 of 60 s"]
    assert measured(file, 15) == {"long": 3, "short": 2}
    assert [json.loads(line) for line in file.read_text().splitlines()]
    kept = Rounds(file)
    assert kept.conditions["date"] == "yesterday"
    assert kept.stages["long"].facts["images"] == 8
    assert kept.stages["long"].of("a") == [7.0, 0.0, 1.0]
    assert measured(file, 15) == {"long": 3, "short": 2}


def test_minutes_are_shared_and_add_rounds(tmp_path, monkeypatch):
    clock = itertools.count(0, 15)  # a round begins and ends within one look at the clock
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    file = tmp_path / "a.jsonl"
    first = measured(file, 15, minutes=4)
    assert first["long"] > first["short"] >= 1
    assert sum(first.values()) <= 4 * 60 / 15
    second = measured(file, 15, minutes=4)
    assert all(second[name] > first[name] for name in first)
    assert measured(file, 15, minutes=0, only=("short",))["short"] == second["short"] + 1


def test_rounds_under_other_conditions_are_set_aside(tmp_path):
    file = tmp_path / "a.jsonl"
    measured(file, 100, {"code": "1", "date": "today"})
    assert measured(file, 15, {"code": "2", "date": "today"}) == {"long": 4, "short": 2}
    assert len(Rounds(tmp_path / "a.before.jsonl").stages["long"].rounds) == 2


def test_what_does_not_fit_is_named(tmp_path, monkeypatch, capsys):
    for name in [name for name in os.environ if name.endswith("_THREADS")]:
        monkeypatch.delenv(name)
    assert main(["index", "--device", "gpu", "--results", str(tmp_path)]) == 1
    assert "only `step` runs on a GPU" in capsys.readouterr().err
    assert main(["index", "--only", "nothing", "--results", str(tmp_path)]) == 1
    assert "index has the stages headers" in capsys.readouterr().err
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["index", "--results", str(tmp_path)]) == 1
    assert "OMP_NUM_THREADS: unset it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fuzzer_goes_on_with_the_next_mutations(tmp_path):
    words = [sys.executable, "-m", "benchmarks", "fuzz_reader", "--trial", "--minutes", "0"]
    for count in (320, 640):
        done = subprocess.run(
            [*words, "--results", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"The reader: {count} damaged files" in done.stdout
    report = (tmp_path / "performance.md").read_text()
    assert "| Damaged files: violations | 0 | 0 | yes |" in report
    assert "mutations: 2 rounds in" in report


@pytest.mark.slow
def test_waits_tell_what_the_time_went_to(tmp_path):
    words = [sys.executable, "-m", "benchmarks", "waits", "--trial", "--minutes", "0"]
    words += ["--only", "index", "--against", str(ROOT), "--results", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    stage = Rounds(tmp_path / "waits.jsonl").stages["index"]
    assert stage.sides == ["now", "before"]
    (seconds,), *parts = (stage.of("now", name) for name in ("seconds", "importing", "workers"))
    assert all(0 < part < seconds for (part,) in parts)
    assert stage.of("now", "tracing") == [0.0]
