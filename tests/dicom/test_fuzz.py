"""A short run of `python -m benchmarks fuzz_reader`."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fuzz_reader(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.fuzz_reader")


def test_mutated_files_give_a_frame_or_a_code(fuzz_reader, tmp_path):
    files = fuzz_reader.seeds()
    codes = set()
    for number in range(300):
        syntax, content = fuzz_reader.mutation(number, 1, files)
        (tmp_path / "a").write_bytes(content)
        code, violation = fuzz_reader.check(tmp_path / "a")
        assert violation == "", f"mutation {number} of {syntax}"
        codes.add(code)
    assert {"read", "truncated", "damaged-header", "decode-failed"} <= codes


def test_mutations_can_be_repeated(fuzz_reader):
    files = fuzz_reader.seeds()[:3]
    assert fuzz_reader.mutation(7, 1, files) == fuzz_reader.mutation(7, 1, files)
    assert fuzz_reader.mutation(7, 1, files) != fuzz_reader.mutation(7, 2, files)
