import errno

import numpy as np
import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.training.checkpoints import Checkpoint, Checkpoints


def checkpoint(step):
    rng = np.random.default_rng(step)
    variables = {
        "net/block 1/kernel": rng.normal(size=(3, 4)).astype(np.float32),
        "adam/iteration": np.array(step, np.int64),
        "../ü:0.npy": np.zeros(0),
    }
    best = {"net/block 1/kernel": rng.integers(0, 9, 5, np.uint32)}
    return Checkpoint(step, variables, best, {"History": [["a", "1"]]})


def assert_equal(a, b):
    assert (a.step, a.state) == (b.step, b.state)
    for x, y in ((a.variables, b.variables), (a.best, b.best)):
        assert x.keys() == y.keys()
        for path in x:
            assert x[path].dtype == y[path].dtype
            np.testing.assert_array_equal(x[path], y[path])


@pytest.fixture
def filled(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10, 1000, 20_000):
        checkpoints.save(checkpoint(step))
    return checkpoints


def test_the_last_three_are_kept_and_the_newest_is_read(filled, tmp_path):
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-000000010.npz",
        "step-000001000.npz",
        "step-000020000.npz",
    ]
    assert_equal(filled.latest(), checkpoint(20_000))


def test_the_file_names_every_variable_by_its_path(filled, tmp_path):
    with np.load(tmp_path / "step-000001000.npz") as file:
        assert set(file.files) == {
            *("step", "state", "best/net/block 1/kernel", "variables/net/block 1/kernel"),
            *("variables/adam/iteration", "variables/../ü:0.npy"),
        }
        assert file["variables/adam/iteration"] == 1000


def test_there_is_none_at_first(tmp_path):
    assert Checkpoints(tmp_path).latest() is None


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("damage", ["half", "empty", "missing", "flipped", "junk"])
def test_a_damaged_one_leads_to_the_one_before(filled, tmp_path, capsys, damage):
    path = tmp_path / "step-000020000.npz"
    content = bytearray(path.read_bytes())
    if damage == "half":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[content.find(b"NUMPY") + 130] ^= 1  # in the values of the first array
        path.write_bytes(content)
    else:
        path.write_bytes(b"junk" * 100)
    assert_equal(filled.latest(), checkpoint(1000))
    said = capsys.readouterr().err
    assert ("step-000020000.npz is damaged" in said.replace("\n", " ")) == (damage != "missing")


def test_every_length_of_a_cut_file_is_noticed(filled, tmp_path):
    path = tmp_path / "step-000020000.npz"
    content = path.read_bytes()
    for size in range(0, len(content), 41):
        path.write_bytes(content[:size])
        assert filled.latest().step == 1000


def test_a_full_disk_leaves_the_older_ones(filled, tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        filled.save(checkpoint(30_000))
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / "step-000000001.part").write_text("half")
    assert Checkpoints(tmp_path).latest() is None
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_said_at_the_start(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.require_space(1000)
    with pytest.raises(
        UserError, match=r"run: .* GB free, but the run's checkpoints need 4000000.0"
    ):
        checkpoints.require_space(10**15)
