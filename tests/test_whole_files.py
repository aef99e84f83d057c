import csv
import json
import os

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.whole_files import (
    private,
    public,
    replacing,
    sole,
    write_json,
    write_table,
    write_text,
)


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as beside:
        assert beside.name.endswith(".weights.h5")  # Keras looks at the suffix
        beside.write_text("half")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_and_json(tmp_path):
    write_text(tmp_path / "a", "ö \udcff")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "ö \\udcff"
    write_json(tmp_path / "b", {"ä": [1, 2]})
    assert json.loads((tmp_path / "b").read_text(encoding="utf-8")) == {"ä": [1, 2]}
    assert "ä" in (tmp_path / "b").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_private_file_is_its_users_alone_from_the_first_byte(tmp_path):
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a", private=True) as beside:
            assert beside.stat().st_mode & 0o777 == 0o600
            beside.write_text("x")
        write_text(tmp_path / "b", "x", private=True)
        write_table(tmp_path / "c", ["k"], [], private=True)
        write_text(tmp_path / "d", "x")
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes == {"a": 0o600, "b": 0o600, "c": 0o600, "d": 0o644}


def test_every_cell_of_a_table_comes_back(tmp_path):
    path = tmp_path / "t.csv"
    cells = ["a\rb", "c\nd", "e\r\nf", 'g,"h"', "", " i ", "ü"]
    write_table(path, ["x", "y"], [{"x": cell, "y": k} for k, cell in enumerate(cells)])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"x": cell, "y": str(k)} for k, cell in enumerate(cells)]


def test_no_cell_starts_a_formula(tmp_path):
    path = tmp_path / "t.csv"
    cells = ["=1+1", "+a", "-a.png", "@x", "\tx", "-0.5", "+1e3", "-inf", "a=1", ""]
    write_table(path, ["x"], [{"x": cell} for cell in cells])
    with path.open(newline="", encoding="utf-8") as file:
        found = [row["x"] for row in csv.DictReader(file)]
    assert found[:5] == ["'=1+1", "'+a", "'-a.png", "'@x", "'\tx"]
    assert found[5:] == cells[5:]
    write_table(path, ["x"], [{"x": -0.5}])
    assert path.read_text().split() == ["x", "-0.5"]


def test_what_is_made_is_private_but_for_what_is_public(tmp_path):
    before = os.umask(0o022)
    try:
        with private():
            (tmp_path / "folder").mkdir()
            with private():  # as of a function that a private one calls
                (tmp_path / "page").write_text("a picture")
            with public():
                (tmp_path / "models").mkdir()
                (tmp_path / "model").write_text("weights")
            (tmp_path / "more").write_text("a picture")
        (tmp_path / "after").write_text("as before")
        with public():  # not within `private`: nothing to undo
            (tmp_path / "alone").write_text("as before")
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    own = {"folder": 0o700, "page": 0o600, "more": 0o600}
    assert modes == own | {"models": 0o755, "model": 0o644, "after": 0o644, "alone": 0o644}


def test_only_one_is_in(tmp_path):
    def enter():
        with sole(tmp_path / "lock", "busy"):
            return True

    with sole(tmp_path / "lock", "busy"), pytest.raises(UserError, match="busy"):
        enter()
    assert enter()
