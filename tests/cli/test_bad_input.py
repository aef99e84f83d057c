"""Mistakes a user can mend: one message naming value and remedy, exit code 2, no traceback."""

import sys

import numpy as np
import pytest

from tf_dicom_ce.cli import main

ARRAY = np.arange(600, dtype=np.uint8).reshape(20, 30)


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Runs a command in tmp_path, expects exit code 2 and returns what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:  # argparse
            code = stop.code
        out = capsys.readouterr()
        assert code == 2
        assert "Traceback" not in out.err
        assert not (tmp_path / "runs").exists()
        assert not (tmp_path / "export").exists()
        return out.err

    return run


def test_wrong_path(fails, tmp_path):
    assert f"{tmp_path / 'none'} does not exist" in fails("train", "--data", tmp_path / "none")


def test_empty_folder(fails, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is empty" in fails("train", "--data", tmp_path / "empty")


def test_folder_without_images(fails, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a note")
    message = fails("train", "--data", tmp_path / "notes")
    assert "no readable ultrasound image" in message
    assert "1 not-dicom" in message


def test_unknown_preset(fails, tmp_path):
    message = fails("train", "--data", tmp_path, "--preset", "fast")
    assert "'fast'" in message
    assert "paper" in message
    assert "quick" in message


def test_image_size_not_divisible_by_32(fails, tmp_path):
    message = fails("train", "--data", tmp_path, "--image-size", 256, 300)
    assert "300 is not a multiple of 32" in message
    assert "288 and 320" in message


@pytest.mark.parametrize(
    ("option", "value"), [("--epochs", 0), ("--batch-size", -1), ("--width", 0)]
)
def test_numbers_out_of_range(fails, tmp_path, option, value):
    assert f"{option} {value}" in fails("train", "--data", tmp_path, option, value)


def test_schema_mistake_names_the_line(fails, tmp_path):
    schema = tmp_path / "mine.toml"
    schema.write_text(
        'name = "mine"\n[[tag]]\nname = "probe"\nelement = "TransducerData"\n'
        'labels = ["linear"]\n[tag.map]\n"L1" = ["linaer"]\n'
    )
    message = fails("train", "--data", tmp_path, "--tags", schema)
    assert "mine.toml, line 7" in message
    assert "linaer" in message


def test_a_report_goes_to_a_folder_of_its_own(write, tmp_path, capsys):
    write("data/a.dcm", ARRAY, StudyDescription="US LIVER")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("mine")
    words = ["index", str(tmp_path / "data"), "--run", str(tmp_path / "run")]
    assert main(words) == 2
    assert "holds files that are not a report (config.json)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    (tmp_path / "run" / "config.json").unlink()
    for _ in range(2):  # a report may be replaced by a newer one
        assert main(words) == 0
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()}
    assert modes == {0o600}


def test_a_run_folder_in_use_is_left_alone(write, tmp_path, capsys):
    write("data/a.dcm", ARRAY, StudyDescription="US LIVER")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("mine")
    arguments = ["train", "--data", str(tmp_path / "data"), "--run", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "the folder is not empty" in capsys.readouterr().err
    assert (tmp_path / "run" / "history.csv").read_text() == "mine"


def test_no_tensorflow_for_help_and_mistakes(tmp_path):
    """A mistake shows at once: TensorFlow takes seconds to load."""
    import subprocess

    script = (
        "import sys; from tf_dicom_ce.cli import main; "
        f"code = main(['train', '--data', {str(tmp_path / 'none')!r}]); "
        "sys.exit(code if not {'tensorflow', 'keras'} & set(sys.modules) else 99)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 2
