import stat

from tf_dicom_ce.intake.header_cache import HeaderCache

SECRET = b"s" * 32
ENTRIES = [("a/1", (10, 20), {"v": ["US LIVER"]}), ("b/2", (11, 21), ["truncated", ""])]


def cache(folder, identity=("root",), secret=SECRET):
    return HeaderCache(folder, identity, secret)


def loaded(entries):
    return {path: (stamp, entry) for path, stamp, entry in entries}


def test_what_was_added_is_found_again(tmp_path):
    assert cache(tmp_path).load() == {}
    cache(tmp_path).append(ENTRIES[:1])
    cache(tmp_path).append([])
    cache(tmp_path).append(ENTRIES[1:])
    assert cache(tmp_path).load() == loaded(ENTRIES)


def test_the_newest_entry_counts(tmp_path):
    cache(tmp_path).append(ENTRIES)
    newer = ("a/1", (12, 22), {"v": []})
    cache(tmp_path).append([newer])
    assert cache(tmp_path).load()["a/1"] == ((12, 22), {"v": []})


def test_other_rules_or_another_secret_find_nothing(tmp_path):
    cache(tmp_path).append(ENTRIES)
    assert cache(tmp_path, ("root", "PatientAge")).load() == {}
    assert cache(tmp_path, secret=b"t" * 32).load() == {}


def test_every_length_that_a_killed_run_may_leave(tmp_path):
    cache(tmp_path).append(ENTRIES[:1])
    (file,) = tmp_path.iterdir()
    first = file.read_bytes()
    cache(tmp_path).append(ENTRIES[1:])
    whole = file.read_bytes()
    more = ("c", (1, 2), {"v": None})
    for size in range(len(first), len(whole)):
        file.write_bytes(whole[:size])
        # The last byte is a line break, without which the chunk is whole all the same.
        kept = ENTRIES if size == len(whole) - 1 else ENTRIES[:1]
        assert cache(tmp_path).load() == loaded(kept)
        cache(tmp_path).append([more])
        assert cache(tmp_path).load() == loaded([*kept, more])


def test_nobody_else_can_read_it(tmp_path):
    cache(tmp_path / "headers").append(ENTRIES)
    (file,) = (tmp_path / "headers").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "headers").stat().st_mode) == 0o700
    for word in (b"LIVER", b"a/1", b"root"):
        assert word not in file.read_bytes() + file.name.encode()
