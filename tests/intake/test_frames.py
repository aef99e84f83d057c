from types import SimpleNamespace

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import choose_frames


def chosen(frames, choice):
    file = SimpleNamespace(path="a", size=1, mtime_ns=2, frames=frames)
    return [sample.frame for sample in choose_frames([file], choice)]


@pytest.mark.parametrize(
    ("frames", "choice", "expected"),
    [
        (1, "middle", [None]),
        (9, "middle", [None]),
        (1, "all", [0]),
        (3, "all", [0, 1, 2]),
        (3, "every:1", [0, 1, 2]),
        (1, "every:5", [0]),
        (4, "every:5", [1]),  # 3 // 2
        (5, "every:5", [2]),
        (6, "every:5", [0, 5]),
        (10, "every:5", [2, 7]),
        (11, "every:5", [0, 5, 10]),
        (13, "every:5", [1, 6, 11]),
    ],
)
def test_choices(frames, choice, expected):
    assert chosen(frames, choice) == expected


def test_samples_know_their_file():
    samples = choose_frames([SimpleNamespace(path=path, frames=2) for path in "ab"], "all")
    assert [(s.path, s.row, s.frame) for s in samples] == [
        ("a", 0, 0),
        ("a", 0, 1),
        ("b", 1, 0),
        ("b", 1, 1),
    ]


@pytest.mark.parametrize("choice", ["", "first", "every:", "every:0", "every:-1", "every:2.5"])
def test_other_words_are_mistakes(choice):
    with pytest.raises(UserError, match=rf"--frames {choice}: choose middle, all"):
        choose_frames([], choice)
