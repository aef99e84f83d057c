"""A shell completes what a person types."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tf_dicom_ce.cli import main

# Instead of the program: shows the words that the shell completed.
SHOW = "tf-dicom-ce() { printf '<%s>' \"$@\"; echo; }\n"


@pytest.fixture
def typed(tmp_path, capsys):
    """What a bash in a terminal made of a line with tabs, typed in a folder with some files."""
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out + SHOW + "bind 'set bell-style none'\nPS1='> '\n")
    work = tmp_path / "work"
    (work / "images").mkdir(parents=True)
    (work / "labels.csv").touch()

    def run(line):
        parent, child = pty.openpty()
        command = ["bash", "--noprofile", "--rcfile", str(script), "-i"]
        streams = {"stdin": child, "stdout": child, "stderr": child}
        with subprocess.Popen(command, cwd=work, start_new_session=True, **streams) as shell:
            os.close(child)
            os.write(parent, f"{line}\nexit\n".encode())
            told, until = b"", time.monotonic() + 30
            while time.monotonic() < until and select.select([parent], [], [], 30)[0]:
                try:
                    told += os.read(parent, 4096)
                except OSError:  # it has ended
                    break
            shell.kill()
        os.close(parent)
        return [line for line in told.decode().splitlines() if line.startswith("<")]

    return run


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tf-dicom-ce ind\t ima\t", "<index><images/>"),
        ("tf-dicom-ce train --dat\t la\t", "<train><--data><labels.csv>"),
        ("tf-dicom-ce train --pres\t qui\t", "<train><--preset><quick>"),
        ("tf-dicom-ce train --run la\t", "<train><--run><la>"),  # a file is no folder
        ("tf-dicom-ce finetune --task seg\t", "<finetune><--task><segmentation>"),
    ],
)
def test_bash(typed, line, words):
    assert typed(line) == [words]


def test_zsh_gets_a_script(capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", "zsh"])
    out = capsys.readouterr().out
    assert out.startswith("#compdef tf-dicom-ce")
    assert '"--label-encoding[' in out


def test_help_does_not_wait_for_it():
    lines = "import sys; from tf_dicom_ce.cli import main\ntry: main(['--help'])\n"
    lines += "finally: print({'shtab', 'tensorflow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout
