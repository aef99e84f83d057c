import subprocess
import sys

import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.training import run_folder

OPEN = """
import sys
from pathlib import Path
from tf_dicom_ce.training.run_folder import open_run_folder
with open_run_folder(Path(sys.argv[1]), "x", True):
    print("opened", flush=True)
    sys.stdin.read()
"""


def opened(path, resume):
    with run_folder.open_run_folder(path, "x", resume) as folder:
        return folder


def test_one_process_at_a_time(tmp_path):
    command = [sys.executable, "-c", OPEN, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"opened\n"
        with pytest.raises(UserError, match=r"run: another process is at work in this folder"):
            opened(tmp_path / "run", resume=True)
        other.kill()
        other.wait()
        # The lock goes with the process, however it ended.
        assert opened(tmp_path / "run", resume=True).is_dir()


def test_a_folder_that_holds_something_is_only_gone_on_with(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"not empty. Choose another name, or --resume"):
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
    run_folder.write_config(tmp_path, content)
    run_folder.write_config(tmp_path, {**content, "environment": {"python": "3.12"}})
    with pytest.raises(UserError, match=r"has epochs 3, and now it would be 4. Repeat its command"):
        run_folder.write_config(tmp_path, {**content, "epochs": 4})
    with pytest.raises(UserError, match=r"has image_size \[32, 64\], and now it would be None"):
        run_folder.write_config(tmp_path, {"epochs": 3})
