import contextlib
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tf_dicom_ce.intake import file_cache
from tf_dicom_ce.intake.file_cache import FileCache

ENTRIES = [("a/1", (10, 20, 30), {"v": ["US LIVER"]}), ("b/2", (11, 21, 31), ["truncated", ""])]
STAMPS = {path: stamp for path, stamp, _ in ENTRIES} | {"c": (1, 2, 3)}


def cache(folder, identity=("headers",), source=Path("root")):
    return FileCache(source, identity, folder)


def loaded(entries):
    return {path: entry for path, _, entry in entries}


def test_what_was_added_is_found_again(tmp_path):
    assert cache(tmp_path).load(STAMPS) == {}
    cache(tmp_path).append(ENTRIES[:1])
    cache(tmp_path).append([])
    cache(tmp_path).append(ENTRIES[1:])
    assert cache(tmp_path).load(STAMPS) == loaded(ENTRIES)


def test_the_newest_entry_counts(tmp_path):
    cache(tmp_path).append(ENTRIES)
    cache(tmp_path).append([("a/1", (10, 20, 30), {"v": []})])
    assert cache(tmp_path).load(STAMPS)["a/1"] == {"v": []}


def test_an_entry_counts_for_its_stamp_alone(tmp_path):
    cache(tmp_path).append(ENTRIES)
    for stamp in ((12, 20, 30), (10, 22, 30), (10, 20, 33)):
        assert cache(tmp_path).load({"a/1": stamp, "b/2": (11, 21, 31)}) == loaded(ENTRIES[1:])


def test_only_what_is_not_known_is_found_out(tmp_path):
    asked = []

    def find(paths):
        for path in paths:
            asked.append(path)
            yield f"of {path}"

    cache(tmp_path).append(ENTRIES[:1])
    kept, read = cache(tmp_path).complete(STAMPS, find, "", False, lambda entry: entry != "of c")
    assert (kept, read) == ({"a/1": {"v": ["US LIVER"]}, "b/2": "of b/2", "c": "of c"}, 2)
    cache(tmp_path).complete(STAMPS, find, "", False)
    assert asked == ["b/2", "c", "c"]


def test_other_rules_or_another_secret_find_nothing(tmp_path, monkeypatch):
    cache(tmp_path).append(ENTRIES)
    assert cache(tmp_path, ("headers", "PatientAge")).load(STAMPS) == {}
    monkeypatch.setattr(file_cache, "load_secret", lambda: b"t" * 32)
    assert cache(tmp_path).load(STAMPS) == {}


def test_what_a_killed_run_leaves(tmp_path):
    """The database and its journal as they are in the middle of a transaction."""
    cache(tmp_path / "whole").append(ENTRIES[:1])
    (file,) = (tmp_path / "whole").glob("*/*")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA cache_size = 1")  # pages go to the file at once
        rows = ((str(k).encode(), "(1, 2, 3)", f'"{"x" * 999}"') for k in range(99))
        database.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
        files = list(file.parent.iterdir())
        assert len(files) == 2
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    assert cache(tmp_path / "killed").load(STAMPS | {"0": (1, 2, 3)}) == loaded(ENTRIES[:1])
    cache(tmp_path / "killed").append(ENTRIES[1:])
    assert cache(tmp_path / "killed").load(STAMPS) == loaded(ENTRIES)


def test_a_broken_database_is_made_anew(tmp_path):
    cache(tmp_path).append(ENTRIES)
    (file,) = tmp_path.glob("*/*")
    whole = file.read_bytes()
    overwritten = (b"x" * len(whole), whole.replace(b"US LIVER", b'US "IVER'))
    for content in (*(whole[:size] for size in range(0, len(whole), 99)), *overwritten):
        file.write_bytes(content)
        assert cache(tmp_path).load(STAMPS).items() <= loaded(ENTRIES).items()
        cache(tmp_path).append(ENTRIES)
        assert cache(tmp_path).load(STAMPS) == loaded(ENTRIES)


def test_a_database_that_is_locked_for_long_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr(file_cache, "_PATIENCE", 0.01)
    cache(tmp_path).append(ENTRIES[:1])
    (file,) = tmp_path.glob("*/*")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("BEGIN EXCLUSIVE")
        found = cache(tmp_path).complete(STAMPS, lambda paths: iter(paths), "", False)
        assert found == ({path: path for path in STAMPS}, 3)
    assert cache(tmp_path).load(STAMPS) == loaded(ENTRIES[:1])


WRITER = """
import sys
from pathlib import Path
from tf_dicom_ce.intake.file_cache import FileCache
for k in range(20):
    cache = FileCache(Path("root"), ("headers",), Path(sys.argv[1]))
    cache.append([(f"{sys.argv[2]}{k}", (k,) * 3, k)])
"""


def test_several_processes_at_once(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    stamps = {f"{name}{k}": (k,) * 3 for name in "abc" for k in range(20)}
    assert len(cache(tmp_path).load(stamps)) == 60


def test_a_path_of_any_bytes_and_a_time_of_any_size(tmp_path):
    path, stamp = "\udcff\n", (1, 1 << 64, -1)
    cache(tmp_path).append([(path, stamp, [path])])
    assert cache(tmp_path).load({path: stamp}) == {path: [path]}


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        cache(tmp_path / "file").append(ENTRIES)


def test_nobody_else_can_read_it(tmp_path):
    cache(tmp_path / "headers").append(ENTRIES)
    (file,) = (tmp_path / "headers").glob("*/*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "headers").stat().st_mode) == 0o700
    assert "root" not in file.name
