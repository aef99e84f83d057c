import stat

from tf_dicom_ce.intake.file_cache import FileCache

SECRET = b"s" * 32
ENTRIES = [("a/1", (10, 20, 30), {"v": ["US LIVER"]}), ("b/2", (11, 21, 31), ["truncated", ""])]
STAMPS = {path: stamp for path, stamp, _ in ENTRIES} | {"c": (1, 2, 3)}


def cache(folder, identity=("root",), secret=SECRET):
    return FileCache(folder, identity, secret)


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


def test_other_rules_or_another_secret_find_nothing(tmp_path):
    cache(tmp_path).append(ENTRIES)
    assert cache(tmp_path, ("root", "PatientAge")).load(STAMPS) == {}
    assert cache(tmp_path, secret=b"t" * 32).load(STAMPS) == {}


def test_every_length_that_a_killed_run_may_leave(tmp_path):
    cache(tmp_path).append(ENTRIES[:1])
    (file,) = tmp_path.iterdir()
    first = file.read_bytes()
    cache(tmp_path).append(ENTRIES[1:])
    whole = file.read_bytes()
    more = ("c", (1, 2, 3), {"v": None})
    for size in range(len(first), len(whole)):
        file.write_bytes(whole[:size])
        # The last byte is a line break, without which the chunk is whole all the same.
        kept = ENTRIES if size == len(whole) - 1 else ENTRIES[:1]
        assert cache(tmp_path).load(STAMPS) == loaded(kept)
        cache(tmp_path).append([more])
        assert cache(tmp_path).load(STAMPS) == loaded([*kept, more])


def test_nobody_else_can_read_it(tmp_path):
    cache(tmp_path / "headers").append(ENTRIES)
    (file,) = (tmp_path / "headers").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "headers").stat().st_mode) == 0o700
    for word in (b"LIVER", b"a/1", b"root"):
        assert word not in file.read_bytes() + file.name.encode()
