"""README's commands, in the order shown, in an empty folder; networks and cohort are small."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from tf_dicom_ce import config
from tf_dicom_ce.cli import main
from tf_dicom_ce.phantom import cohort

README = Path(__file__).parents[1] / "README.md"
SMALL = {"image_size": (32, 32), "width": 1 / 32, "epochs": 1}
COHORT = {
    "pretraining": {"": (60, 30)},
    "classification": {"train": (10, 5), "validation": (2, 2), "test": (2, 2)},
    "segmentation": {"train": (10, 10), "validation": (2, 2), "test": (2, 2)},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly"),  # of tf.data
]


def commands():
    """The lines of all blocks behind the two commands that make an environment."""
    text = README.read_text().split("## Your own DICOM")[1]
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from block.strip().splitlines()


@pytest.mark.usefixtures("eagerly")
def test_the_commands_run_in_the_order_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(cohort.PRESETS, "quick", COHORT)
    for presets, more in ((config.PRESETS, {}), (config.FINETUNE_PRESETS, {"epoch_steps": 2})):
        for name, preset in presets.items():
            monkeypatch.setitem(presets, name, dataclasses.replace(preset, **SMALL, **more))
    given, ran = {}, []
    for line in commands():
        words = shlex.split(line, comments=True)
        if "=" in words[0]:
            name, value = words[0].split("=")
            given[f"${name}"] = value
            continue
        program, command, *words = (given.get(word, word) for word in words)
        assert program in ("tf-dicom-ce", "python")
        if program == "python":
            command = command.removesuffix(".py")
        if command == "serve" and not words:
            continue  # it would serve for ever
        assert main([command, *words]) == 0, f"{line}\n{capsys.readouterr().err}"
        ran.append(command)
    assert ran == ["phantom", "index", "audit", "train", *4 * ["finetune"], "predict", "serve"]
    assert sorted(p.name for p in Path("export/segmentation").iterdir()) == ["1", "2", "3"]
    assert len(list(Path("results").glob("**/*.dcm"))) >= 4
