"""`tune` and `--config` through the command line."""

import csv
import dataclasses
import json
import tomllib

import numpy as np
import pytest

from tf_dicom_ce.cli import main, train, tune
from tf_dicom_ce.cli.tune import words_of
from tf_dicom_ce.config import PRESETS, PretrainConfig
from tf_dicom_ce.config_file import read_config, write_settings
from tf_dicom_ce.errors import UserError

SMALL = ["--preset", "quick", "--image-size", "32", "32", "--epochs", "1", "--batch-size", "4"]


def parse(module, *words):
    import argparse

    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args([*map(str, words)])


def test_config_file_keeps_every_setting(tmp_path):
    config = dataclasses.replace(
        PRESETS["quick"], tags='a "quoted" \\ näme\x7f.toml', d_learning_rate=1e-5, augment=True
    )
    write_settings(tmp_path / "c.toml", config)
    assert PretrainConfig(**read_config(tmp_path / "c.toml", PretrainConfig)) == config


def test_options_stand_above_the_file_and_the_file_above_the_preset(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("epochs = 7\nbatch_size = 3\nwidth = 1\n")
    options = parse(train, "--preset", "quick", "--config", path, "--epochs", 9)
    config = train.configure(options)
    assert (config.epochs, config.batch_size, config.width) == (9, 3, 1.0)
    assert config.image_size == PRESETS["quick"].image_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "epochs = 3\nepoch = 4",
            "line 2: unknown setting 'epoch'. Did you mean 'epochs'? The settings are use_",
        ),
        ("\n[train]\nepochs = 3", "c.toml, line 2: unknown setting 'train'"),
        ("epochs = 3.5", "line 1: epochs = 3.5: must be a whole number"),
        ("epochs = true", "line 1: epochs = true: must be a whole number"),
        ("width = 'x'", 'line 1: width = "x": must be a number'),
        ("augment = 1", "line 1: augment = 1: must be true or false"),
        ("tags = 2020-01-01", 'line 1: tags = "2020-01-01": must be a text'),
        (
            "image_size = [32, 32, 1]",
            "line 1: image_size = [32, 32, 1]: must be two",
        ),
        ("epochs = = 3", "at line 1"),
        ("width = 9.0", "line 1: width = 9.0: choose a number above 0, at most 4"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        train.configure(parse(train, "--config", path))
    assert message in str(caught.value)


def test_missing_file(tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


def test_refusals(tmp_path, capsys):
    for words, message in (
        (["--trials", "0"], "--trials 0: choose 1 or more."),
        (["--export", "e"], "--export and --resume do not apply"),
        (["--resume"], "--export and --resume do not apply"),
        (["--search", "depth"], "--search depth: choose from lambda_adv,"),
        (["--search", "width", "--width", "1"], "leave out --width"),
    ):
        assert main(["tune", "--run", str(tmp_path / "run"), *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_incomplete_distribution(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert main(["tune", "--run", str(tmp_path / "run"), "--trials", "1"]) == 2
    message = capsys.readouterr().err
    assert "needs KERASTUNER_ORACLE_PORT, KERASTUNER_TUNER_ID as well" in message


def test_what_a_trial_is_told():
    options = parse(tune, "--data", "d", "--labels", "l.csv", "--width", 1, "--trials", 3)
    told = {name: value for name, value in vars(options).items() if name not in tune._OWN}
    words = words_of({"data": "d", **told, "histograms": True, "augment": False})
    assert words[:2] == ["--data", "d"]
    options = parse(train, *words)
    assert (options.width, options.histograms, options.augment) == (1.0, True, None)
    assert (options.pacs_modality, options.labels) == ("US", None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # keras-tuner: threading.currentThread
def test_a_trial_and_settings_to_train_with(write, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for k in range(12):
        write(
            f"data/{k:02d}",
            rng.integers(0, 200, (40, 60)).astype(np.uint8),
            PatientID=f"P{k % 4}",
            StudyDescription=["US THYROID BIOPSY", "US BIOPSY LIVER FOCAL"][k % 2],
            TransducerData="SC6-1",
        )
    common = ["--data", str(tmp_path / "data"), *SMALL]
    run = tmp_path / "search"
    words = ["--width", "0.03125", "--trials", "1", "--search", "lambda_adv,spectral_norm"]
    assert main(["tune", *common, *words, "--run", str(run)]) == 0
    assert "Best settings" in capsys.readouterr().out

    with (run / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["status"] for row in table] == ["completed"]
    best = tomllib.loads((run / "best.toml").read_text())
    assert str(best["lambda_adv"]) == table[0]["lambda_adv"]
    folder = run / "trials" / "0"
    assert (folder / "export" / "encoder" / "1" / "encoder.json").exists()
    assert list(folder.glob("tensorboard/*/events*"))

    config = train.configure(parse(train, *common, "--config", run / "best.toml")).as_dict()
    for found in (json.loads(json.dumps(config)), json.loads((folder / "config.json").read_text())):
        assert {k: v for k, v in found.items() if k in best} == best
