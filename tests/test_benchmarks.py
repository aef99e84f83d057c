"""Every benchmark is listed, and tells its options at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import MEASURED  # noqa: E402
from benchmarks.__main__ import listing, main  # noqa: E402

sys.path.remove(str(ROOT))

#: What benchmarks share, or what runs as a part of one.
PARTS = {
    *("contender", "dicom_encoders", "elsewhere", "hostile_requests", "learning", "plot", "served"),
    *("sizes", "tables", "turns"),
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


@pytest.mark.slow
def test_options_after_the_name_are_handed_on():
    words = [sys.executable, "-m", "benchmarks", "fuzz_reader", "--count", "40", "--seed", "3"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 mutations, seed 3: 0 violations" in done.stdout
