"""Every kind of mistake: the message names what was given, and what to do."""

import configparser
import shutil
from pathlib import Path

import numpy as np
import pytest

from tf_dicom_ce.cli import main
from tf_dicom_ce.errors import EXTRAS

LABELS = {
    "no-column": "path,quality\na,1\n",
    "twice": "path,path,label\na,a,1\n",
    "no-file": "path,label\nmissing.dcm,1\n",
    "no-label": "path,label\na,\n",
    "half-split": "path,label,split\na,1,train\nb,2,\n",
    "no-split": "path,label,split\na,1,holdout\nb,2,train\n",
    "again": "path,label\na,1\na,2\n",
    "no-frame": "path,label,frame\na,1,first\n",
    "words": "path,label\na,good\nb,poor\n",
    "nan": "path,label\na,1\nb,nan\n",
    "cases": "path,label\na,good\nb,Good\n",
    "cells": "path,label\na,1,2,3\n",
    "latin": "path,label\na,m\xe4\xdfig\n",
}
FILES = {
    "notes.txt": b"a note",
    "broken.zip": b"PK\x05\x06" + bytes(8) + b"\1\0\0\0" + bytes(6),  # its directory is missing
    "unknown.toml": b"epoch = 3\n",
    "wrong.toml": b'epochs = "many"\n',
    "none.toml": b"epochs = \n",
    "schema.toml": b'name = "mine"\n[[tag]]\nname = "probe"\nelement = "Nothing"\nlabels = ["a"]\n',
    "tags.csv": b"path,StudyDescription\nmissing,US LIVER\n",
    **{f"{name}.csv": text.encode("latin-1") for name, text in LABELS.items()},
}
HEAD = "finetune --task classification --encoder none --data data --labels"

# Words after the command's name; what came; what was expected, or what to do.
MESSAGES = [
    ("index ''", "'' is no source", "Give a folder, a zip or tar, or a URL"),
    ("index gone", "gone does not exist", "give a folder of DICOM files"),
    ("index empty", "empty is empty", "give a folder that holds DICOM files"),
    ("index notes.txt", "notes.txt is neither a folder of DICOM files", "nor a zip or tar of them"),
    ("index broken.zip", "broken.zip: damaged or encrypted", "pack or copy it again"),
    (
        "index data --run data",
        "--run data: holds files that are not a report",
        "Choose another folder",
    ),
    ("index data --labels gone.csv", "gone.csv: No such file", "Give a CSV that you can read"),
    ("index data --labels tags.csv", "tags.csv, line 2: no such file in", "data"),
    ("index data --labels cells.csv", "cells.csv, line 2: 4 cells, but 2 columns", "in quotes"),
    ("index data --labels latin.csv", "latin.csv, line 2: not UTF-8", "CSV UTF-8"),
    ("index data --tags gone.toml", "gone.toml", "ultrasound"),
    ("index data --tags schema.toml", "schema.toml, line 4", "Nothing"),
    ("index data --exclude burned", "--exclude burned", "burned-in"),
    ("index https://joe:x@host/dicom-web", "holds a user or a password", "in the environment"),
    ("index http://127.0.0.1:1 --pacs-dates x", 'dates "x" are not a range', "20240101-20241231"),
    ("index data more", "unrecognized arguments: more", "usage"),
    ("train data", "unrecognized arguments: data", "--data data"),
    ("train --data data --preset fast", "'fast'", "quick"),
    ("train --data data --epochs 0", "--epochs 0", "choose 1 or more"),
    ("train --data data --epochs many", "'many'", "--epochs"),
    ("train --data data --width 9", "--width 9", "a number above 0, at most 4"),
    ("train --data data --image-size 100 96", "100 is not a multiple of 32", "96 and 128"),
    ("train --data data --frames some", "--frames some", "choose middle, all, or every:N"),
    ("train --data data --config gone.toml", "gone.toml: No such file", "Give a TOML file"),
    (
        "train --data data --config unknown.toml",
        "unknown setting 'epoch'",
        "Did you mean 'epochs'?",
    ),
    ("train --data data --config wrong.toml", 'epochs = "many"', "must be a whole number"),
    ("train --data data --config none.toml", "none.toml: Invalid value", "line 1"),
    ("train --no-use-dicom --tag-noise 0.1", "--tag-noise", "--no-use-dicom leaves out"),
    ("train --lambda-rec 0 --lambda-adv 0", "are all 0", "raise one"),
    ("train --encoder-weights imagenet", "vgg16bn has no ImageNet weights", "--backbone vgg16"),
    ("train --encoder-weights mine.h5", "--encoder-weights mine.h5", "ends in .keras"),
    ("tune --trials 0", "--trials 0", "choose 1 or more"),
    ("tune --export x", "--export and --resume do not apply", "its own folder"),
    ("study gone.toml", "gone.toml: No such file", "Give a TOML file"),
    ("study quick --job 999", "--job 999", "there are jobs 0 to"),
    ("finetune", "--task", "give classification or segmentation"),
    ("finetune --task counting", "'counting'", "segmentation"),
    ("finetune --task classification --encoder gone", "gone", "none"),
    (
        f"{HEAD} no-column.csv",
        "no-column.csv, line 1: no column 'label'",
        "columns are: path, quality",
    ),
    (f"{HEAD} twice.csv", "twice.csv, line 1: column 'path' occurs twice", ""),
    (f"{HEAD} no-file.csv", "line 2: no file 'missing.dcm'", "Paths are relative to --data"),
    (f"{HEAD} no-label.csv", "no row has a label", "Fill in the column"),
    (f"{HEAD} half-split.csv", "for some rows only", "Fill in all of them, or none"),
    (f"{HEAD} no-split.csv", "line 2: split 'holdout': choose from", "train"),
    (f"{HEAD} again.csv", "line 3: 'a' is in", "Remove one"),
    (f"{HEAD} no-frame.csv", "line 2: frame 'first'", "whole number, 0 or more"),
    (f"{HEAD} words.csv", "The classes good, poor are not numbers", "--class-names good poor"),
    (f"{HEAD} nan.csv", "line 3: is 'nan' a class?", "leave the cell empty"),
    (f"{HEAD} cases.csv", "line 3: is 'Good' the class 'good'", "Write both in the same way"),
    (f"{HEAD} words.csv --class-names good fair", "unknown class 'poor'", "Known: good, fair"),
    ("predict data", "required", "--out"),
    ("predict data --out data/out", "lies in data", "Choose a folder beside it"),
    ("predict data --out out --model gone", "gone: no exported head here", "finetune.py"),
    ("serve gone", "gone: no such folder", "Give the one that train or finetune exports to"),
    ("serve --host 0.0.0.0", "0.0.0.0", "TF_DICOM_CE_SERVE_TOKEN"),
    ("phantom", "required", "--out"),
    ("learn", "'learn'", "train"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, build):
    folder = tmp_path_factory.mktemp("mistakes")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "empty").mkdir()
    (folder / "data").mkdir()
    for name in "ab":
        pixels = np.arange(600, dtype=np.uint8).reshape(20, 30)
        build(pixels, PatientID=name).save_as(folder / "data" / name, enforce_file_format=True)
    return folder


@pytest.mark.parametrize(("words", "came", "remedy"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_one_message_names_what_came_and_what_to_do(
    folder, monkeypatch, capsys, words, came, remedy
):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    try:
        code = main(["" if word == "''" else word for word in words.split()])
    except SystemExit as stop:  # argparse
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert came in error
    assert remedy in error
    for left in (folder / "runs", folder / "out", folder / "studies"):  # begun
        shutil.rmtree(left, ignore_errors=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("extra", ["pacs", "serve", "study", "dask"])
def test_a_library_of_an_extra_is_named_with_its_command(extra):
    declared = configparser.ConfigParser()
    declared.read(Path(__file__).parents[2] / "setup.cfg")
    lines = declared["options.extras_require"][extra].split("\n")
    names = {line.split()[0].replace("-", "_") for line in lines if line.strip()}
    assert names
    assert names <= set(EXTRAS)
