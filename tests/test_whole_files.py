import json

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.whole_files import replacing, sole, write_json, write_text


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


def test_only_one_is_in(tmp_path):
    def enter():
        with sole(tmp_path / "lock", "busy"):
            return True

    with sole(tmp_path / "lock", "busy"), pytest.raises(UserError, match="busy"):
        enter()
    assert enter()
