import json
import subprocess
import sys

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.training import run_folder

#: Holds the lock of a run's folder, without TensorFlow's import.
HOLD = """
import sys
from pathlib import Path
from tf_dicom_ce.whole_files import sole
with sole(Path(sys.argv[1], ".lock"), "busy"):
    print("opened", flush=True)
    sys.stdin.read()
"""


def opened(path, resume):
    with run_folder.open_run_folder(path, "x", resume) as folder:
        return folder


def test_one_process_at_a_time(tmp_path):
    """A second opening of the folder is refused, in this process as in another."""
    busy = pytest.raises(UserError, match=r"run: another process is using this folder")
    with run_folder.open_run_folder(tmp_path / "run", "x", False), busy:
        opened(tmp_path / "run", resume=True)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"opened\n"
        with pytest.raises(UserError, match=r"run: another process is using this folder"):
            opened(tmp_path / "run", resume=True)
        other.kill()
        other.wait()
        # The lock goes with the process, however it ended.
        assert opened(tmp_path / "run", resume=True).is_dir()


def test_a_folder_that_holds_something_is_only_gone_on_with(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"not empty. Choose another folder, or add --resume"):
        opened(tmp_path, resume=False)
    assert opened(tmp_path, resume=True) == tmp_path


def test_resume_needs_a_folder():
    with pytest.raises(UserError, match=r"--resume: give the folder"):
        opened(None, resume=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--run .*file/run: Not a directory"):
        opened(tmp_path / "file" / "run", resume=False)
    with pytest.raises(UserError, match=r"--export .*file/export: Not a directory"):
        run_folder.require_writable(tmp_path / "file" / "export", "--export")


def test_a_run_keeps_its_settings(tmp_path):
    content = {"epochs": 3, "image_size": (32, 64), "environment": {"python": "3.11"}}
    run_folder.write_configuration(tmp_path, content)
    run_folder.write_configuration(tmp_path, {**content, "environment": {"python": "3.12"}})
    with pytest.raises(UserError, match=r"has seed 0, this command has 4. Repeat the run"):
        run_folder.write_configuration(tmp_path, {**content, "seed": 4})
    with pytest.raises(UserError, match=r"has image_size \[32, 64\], this command has None"):
        run_folder.write_configuration(tmp_path, {"epochs": 3})


def test_epochs_may_be_added_but_not_taken_away(tmp_path):
    def begun():
        return json.loads((tmp_path / "config.json").read_text())["epochs"]

    def finished(epochs):
        return run_folder.is_finished(tmp_path, {"epochs": epochs, "seed": 1})

    run_folder.write_configuration(tmp_path, {"epochs": 3, "seed": 1})
    assert not finished(3)
    with pytest.raises(UserError, match=r"--epochs 2: the run in .* has 3 epochs"):
        run_folder.write_configuration(tmp_path, {"epochs": 2, "seed": 1})
    run_folder.write_configuration(tmp_path, {"epochs": 4, "seed": 1})
    assert begun() == 4
    with pytest.raises(UserError, match="has seed 1"):
        run_folder.write_configuration(tmp_path, {"epochs": 9, "seed": 2})
    assert begun() == 4

    run_folder.write_result(tmp_path, 4, {"best_epoch": 2})
    assert json.loads((tmp_path / "result.json").read_text()) == {"epochs": 4, "best_epoch": 2}
    assert finished(4)
    assert not finished(5)
    with pytest.raises(UserError, match=r"--epochs 3: the run in .* has 4 epochs"):
        finished(3)
    with pytest.raises(UserError, match="has seed 1, this command has 2"):
        run_folder.is_finished(tmp_path, {"epochs": 4, "seed": 2})
    # Killed on the way to five: what it had at the end of four is not its end.
    run_folder.write_configuration(tmp_path, {"epochs": 5, "seed": 1})
    assert not finished(5)
    with pytest.raises(UserError, match=r"--epochs 4: the run in .* has 5 epochs"):
        finished(4)


def test_a_result_that_does_not_say_is_of_the_run_s_epochs(tmp_path):
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    (tmp_path / "result.json").write_text("{}")
    assert run_folder.is_finished(tmp_path, {"epochs": 3})
    assert not run_folder.is_finished(tmp_path, {"epochs": 4})
