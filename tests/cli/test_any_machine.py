"""Machines that lack something: a command works all the same, or ends with one message and 2."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tf_dicom_ce.cli import main

FILES = 6
# Answers system calls that lock a file as a file system without locks does (ENOLCK), for all that
# the process starts: a filter of classic BPF on number and second argument, by seccomp.
WITHOUT_LOCKS = """
import ctypes, os, platform, struct, sys

def operation(code, value=0, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, value)

LOAD, IF_EQUAL, ANSWER, ALLOW, ENOLCK = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | 37
FLOCK, FCNTL = {"x86_64": (73, 72), "aarch64": (32, 25)}[platform.machine()]
F_SETLK, F_SETLKW = 6, 7
program = b"".join([
    operation(LOAD, 0),
    operation(IF_EQUAL, FLOCK, yes=5),
    operation(IF_EQUAL, FCNTL, no=3),
    operation(LOAD, 24),
    operation(IF_EQUAL, F_SETLK, yes=2),
    operation(IF_EQUAL, F_SETLKW, yes=1),
    operation(ANSWER, ALLOW),
    operation(ANSWER, ENOLCK),
])

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
# glibc itself links semaphores in /dev/shm: only our own calls meet a file system without links.
WITHOUT_LINKS = """
import os

def link(*_, **__):
    raise PermissionError(1, "Operation not permitted")

os.link = link
"""


@pytest.fixture
def run(write, tmp_path):
    """Runs `tf-dicom-ce index` on six files in a shell; returns exit code and standard error."""
    rng = np.random.default_rng(0)
    for k in range(FILES):
        pixels = rng.integers(0, 255, (40, 60), np.uint8)
        write(f"data/{k}", pixels, PatientID=str(k), StudyDescription="US LIVER")

    def run_command(before="", after="", run="run", **environment):
        command = f'{before} "$PYTHON" "$COMMAND" index "$DATA" --run {run} {after}'
        names = {"PYTHON": sys.executable, "DATA": str(tmp_path / "data")}
        names["COMMAND"] = str(Path(sys.executable).with_name("tf-dicom-ce"))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={**os.environ, **names, **environment},
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert "Traceback" not in done.stderr
        error = done.stderr.strip()
        assert done.returncode == 0 or "\n" not in error
        return done.returncode, error

    return run_command


def is_whole(folder):
    lines = (folder / "files.csv").read_text().splitlines()
    return len(lines) == 1 + FILES and "liver" in lines[-1]


def test_without_a_home(run, tmp_path):
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    code, error = run(**nowhere)
    assert code == 2
    assert "/dev/null/.config/tf-dicom-ce/secret: Not a directory" in error
    assert "set XDG_CONFIG_HOME" in error
    code, error = run(**nowhere | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert code == 0
    assert is_whole(tmp_path / "run")
    assert "/dev/null/.cache/tf-dicom-ce: Not a directory. The cache is in" in error
    (folder,) = (word for word in error.split() if "/tf-dicom-ce-" in word)
    assert not os.path.exists(folder)  # noqa: PTH110  deleted at the end


def test_a_cache_on_a_disk_that_can_only_be_read(run, tmp_path):
    code, error = run(XDG_CACHE_HOME="/proc/self")  # it may be looked at, by root too
    assert code == 0
    assert is_whole(tmp_path / "run")
    assert "set XDG_CACHE_HOME" in error


@pytest.mark.parametrize("what", ["run", "cache"])
def test_a_full_disk(may_mount, run, tmp_path, what):
    full = tmp_path / "full"
    full.mkdir()
    if what == "cache":
        (full / "tf-dicom-ce" / "files").mkdir(parents=True)
    mount = f"mount -t tmpfs -o size=64k tmpfs {full}; mkdir -p {full}/tf-dicom-ce/files; "
    fill = f"head -c 1M /dev/zero > {full}/much 2> /dev/null; "
    quoted = '"$PYTHON" "$COMMAND" index "$DATA" --run'
    place = f"{full}/run" if what == "run" else "run"
    code, error = run(
        f"unshare -m bash -c '{mount}{fill}exec {quoted} {place}' || exit $?; true",
        "> /dev/null 2>&1",
        **({"XDG_CACHE_HOME": str(full)} if what == "cache" else {}),
    )
    if what == "run":
        assert code == 2
        assert f"{full}/run" in error
        assert "No space left on device. Free some" in error
    else:  # done without
        assert code == 0
        assert is_whole(tmp_path / "run")


@pytest.mark.parametrize("library", ["tensorflow", "h5py"])
def test_a_full_disk_in_the_words_of_a_library(monkeypatch, capsys, library):
    def fill(options):
        if library == "h5py":
            h5py.File("/dev/full", "w")
        tf.io.write_file("/dev/full", b"x" * 100_000)

    monkeypatch.setattr("tf_dicom_ce.cli.index.run", fill)
    assert main(["index", "SRC"]) == 2
    error = capsys.readouterr().err
    assert "/dev/full" in error
    assert ": No space left on device. Free some, or choose another folder" in error


def test_data_that_can_only_be_read(may_mount, run, tmp_path):
    data = tmp_path / "data"
    read_only = f"mount --bind {data} {data}; mount -o remount,ro,bind {data}; "
    is_read_only = f"! touch {data}/x 2> /dev/null"
    code, _ = run(f"unshare -m bash -c '{read_only}{is_read_only} && exec \"$@\"' bash")
    assert code == 0
    assert is_whole(tmp_path / "run")


def test_a_working_folder_that_was_deleted(run):
    code, error = run('mkdir gone; cd gone; rmdir "$PWD";')
    assert code == 2
    assert "the working folder was deleted. Change to another one." in error


def test_a_long_tmpdir(run, tmp_path):
    """A socket's path has 107 characters at most."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code, _ = run(TMPDIR=str(folder))
    assert code == 0
    assert is_whole(tmp_path / "run")


def test_without_locks_and_hard_links(run, tmp_path):
    (tmp_path / "without.py").write_text(WITHOUT_LOCKS)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT_LINKS)
    path = f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}"
    code, error = run('"$PYTHON" without.py', PYTHONPATH=path)
    assert code == 0
    assert error == ""
    assert is_whole(tmp_path / "run")
    secret = Path(os.environ["XDG_CONFIG_HOME"]) / "tf-dicom-ce" / "secret"
    assert len(secret.read_bytes()) == 32
    lines = "from pathlib import Path\nfrom tf_dicom_ce.whole_files import sole\n"
    lines += "with sole(Path('lock'), 'busy'): print('in')"
    words = [sys.executable, "without.py", sys.executable, "-c", lines]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "in\n"
    assert done.stderr == ".: no locks on this file system; start nothing twice.\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(run, tmp_path, closed):
    code, _ = run(after=closed)
    assert code == 0
    assert is_whole(tmp_path / "run")


def test_a_full_output(run):
    code, error = run(after="> /dev/full")
    assert code == 2
    assert "the output: No space left on device" in error


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_locale_c(run, tmp_path, utf8):
    """A file's name has letters that the terminal cannot show."""
    (tmp_path / "data" / "5").rename(tmp_path / "data" / "Äpfel – ø")
    code, _ = run(
        run="Ü", LC_ALL="C", PYTHONUTF8=utf8, PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii"
    )
    assert code == 0
    assert is_whole(tmp_path / "Ü")


def test_1024_file_handles(run, tmp_path):
    code, _ = run("ulimit -n 1024;")
    assert code == 0
    assert is_whole(tmp_path / "run")


@pytest.mark.parametrize("cores", [1, 64])
def test_cores(run, tmp_path, cores):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import os\nos.cpu_count = lambda: {cores}\nos.sched_setaffinity(0, {{0}})"
    )
    code, _ = run(PYTHONPATH=f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}")
    assert code == 0
    assert is_whole(tmp_path / "run")
