"""Long work without a terminal says every minute how far it is."""

import io

import pytest

from tf_dicom_ce import progress
from tf_dicom_ce.progress import Bar


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock, bar, seconds):
    """Elements that take some seconds each."""
    with bar:
        for _ in bar.track(range(10), 10, description="Decoding"):
            clock[0] += seconds


def test_a_line_every_minute(clock, capsys):
    """At 80, 160, …: a line behind the elements that end a minute."""
    work(clock, Bar(), 40.0)
    assert capsys.readouterr().err.splitlines() == [
        "Decoding: 2 of 10 (20%)",
        "Decoding: 4 of 10 (40%)",
        "Decoding: 6 of 10 (60%)",
        "Decoding: 8 of 10 (80%)",
        "Decoding: 10 of 10 (100%)",
    ]


def test_short_or_hidden_work_is_quiet(clock, capsys):
    work(clock, Bar(), 5.0)
    work(clock, Bar(shown=False), 90.0)
    assert capsys.readouterr() == ("", "")


def test_tasks(clock, capsys):
    with Bar() as bar:
        task = bar.add_task("Studies", total=2000)
        clock[0] = 59.0
        bar.advance(task, 10)
        clock[0] = 60.0
        bar.advance(task, 1190)
    assert capsys.readouterr().err == "Studies: 1,200 of 2,000 (60%)\n"


def test_files(clock, capsys, tmp_path):
    (tmp_path / "packed").write_bytes(bytes(4000))
    with Bar() as bar, bar.open(tmp_path / "packed", "rb", description="Unpacking") as packed:
        clock[0] = 61.0
        assert len(packed.read(1000)) == 1000
    assert capsys.readouterr().err == "Unpacking: 1,000 of 4,000 (25%)\n"


def test_a_terminal_has_a_bar(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    bar = Bar(auto_refresh=False)
    assert not bar.disable
    work(clock, bar, 90.0)
    told = bar.console.file.getvalue()
    assert "━" in told
    assert "of 10" not in told
