"""Every setting is the same on the command line, in a file of --config and in a study."""

import argparse
import dataclasses
import json

import pytest

from tf_dicom_ce.cli import finetune, study, train
from tf_dicom_ce.config import FinetuneConfig, PretrainConfig, flag, problem
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study.protocol import decided, read_protocol

KINDS = {"pretraining": PretrainConfig, "classification": FinetuneConfig}
MODULES = {"pretraining": train, "classification": finetune}
SETTINGS = [(part, field) for part, kind in KINDS.items() for field in dataclasses.fields(kind)]
NAMES = [f"{part}-{field.name}" for part, field in SETTINGS]
settings = pytest.mark.parametrize(("part", "field"), SETTINGS, ids=NAMES)


def another(field):
    """A value that the field allows and that is not its default."""
    rules, default = field.metadata, field.default
    if field.type is bool:
        return not default
    if field.type == tuple[str, ...]:
        return field.metadata["choices"][:2]
    if "choices" in rules:
        return next(choice for choice in rules["choices"] if choice != default)
    special = {"image_size": (64, 96), "frames": "every:3", "tags": "ultrasound-paper"}
    special |= {"encoder_weights": "a.keras", "teacher": "imagenet"}
    if field.name in special:
        return special[field.name]
    return default + 1 if field.type is int else (default + 1) / 2


def wrong(field):
    """Values that the field does not allow: of another type, and out of its range."""
    none = ["nonsense"] if field.type == tuple[str, ...] else "nonsense"
    out = {"choices": none, "pattern": "nonsense", "least": -1, "above": -0.5}
    of_type = {bool: 3, int: 1.5, float: "x", str: 3}.get(field.type, [1, 2, 3])
    return [*(value for rule, value in out.items() if rule in field.metadata), of_type]


def on_the_command_line(part, words):
    parser = argparse.ArgumentParser(exit_on_error=False)
    MODULES[part].add_arguments(parser)
    task = [] if part == "pretraining" or "--task" in words else ["--task", part]
    options = parser.parse_args(["--preset", "full", *task, *words])
    return train.configure(options) if part == "pretraining" else finetune.configure(options)


def as_words(field, value):
    if field.type is bool:
        return [flag(field.name) if value else flag(f"no_{field.name}")]
    values = [str(one) for one in (value if isinstance(value, tuple | list) else [value])]
    if field.type == tuple[str, ...]:
        return [word for one in values for word in (flag(field.name), one)]
    return [flag(field.name), *values]


def in_a_file(part, field, value, path):
    path.write_text(f"{field.name} = {json.dumps(value)}\n")
    return on_the_command_line(part, ["--config", str(path)])


def in_a_study(part, field, value, path):
    path.write_text(
        f'arms = ["{"ce+dicom" if part == "pretraining" else "none"}"]\nseeds = [0]\n'
        f'fractions = [1.0]\nreadouts = ["tuned"]\ntasks = ["classification"]\n'
        f'[{part}]\npreset = "full"\n{field.name} = {json.dumps(value)}\n'
    )
    words = read_protocol(path, study.options_of()).jobs()[0].command
    study.check_job(words)
    return on_the_command_line(part, list(words[1:]))


@settings
def test_what_one_place_takes_all_take(part, field, tmp_path):
    value = another(field)
    assert not problem(field, value)
    told = [
        on_the_command_line(part, as_words(field, value)),
        in_a_file(part, field, value, tmp_path / "c.toml"),
    ]
    if field.name == "task":  # the command's word stands above the file's
        told = told[:1]
    if field.name in decided(part):
        with pytest.raises(UserError, match=rf"\[{part}\] '{field.name}': the study sets it"):
            in_a_study(part, field, value, tmp_path / "s.toml")
    else:
        told.append(in_a_study(part, field, value, tmp_path / "s.toml"))
    assert [getattr(config, field.name) for config in told] == [value] * len(told)


@settings
def test_what_one_place_refuses_all_refuse(part, field, tmp_path):
    for value in wrong(field):
        assert problem(field, value)
        # A flag has no value on the command line, and any word is a text there.
        if field.type is not bool and (field.type is not str or value == "nonsense"):
            with pytest.raises((UserError, argparse.ArgumentError, SystemExit)) as refused:
                on_the_command_line(part, as_words(field, value))
            assert flag(field.name) in str(refused.value) or field.type == tuple[int, int]
        with pytest.raises(UserError, match=rf"c.toml, line 1: {field.name} = "):
            in_a_file(part, field, value, tmp_path / "c.toml")
        if field.name not in decided(part):
            with pytest.raises(UserError, match=rf"s.toml: \[{part}\]: {field.name} = "):
                in_a_study(part, field, value, tmp_path / "s.toml")


def test_every_option_of_a_command_may_stand_in_a_study():
    """And no others; the study decides some of them itself."""
    commands = {"pretraining": "train", "classification": "finetune"}
    for part, module in MODULES.items():
        command = commands[part]
        parser = argparse.ArgumentParser(add_help=False)
        module.add_arguments(parser)
        assert {action.dest for action in parser._actions} == study.options_of()[command]
        for action in parser._actions:  # no option that a key with a value could not say
            kinds = ("_StoreAction", "_AppendAction", "BooleanOptionalAction")
            plain = type(action).__name__ in kinds
            assert plain or action.dest in decided(part), action.dest


def test_an_arm_is_what_its_name_says(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('arms = ["tags"]\nseeds = [0]\n[pretraining]\nlambda_rec = 0.5\n')
    config = on_the_command_line(
        "pretraining", list(read_protocol(path, study.options_of()).jobs()[0].command[1:])
    )
    assert (config.lambda_rec, config.lambda_tags) == (0.0, 1.0)


def test_contradictions_are_told_before_any_job_has_run(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('arms = ["ce"]\nseeds = [0]\n[pretraining]\ntag_dropout = 0.1\n')
    words = read_protocol(path, study.options_of()).jobs()[0].command
    with pytest.raises(UserError, match="--tag-dropout needs the tags"):
        study.check_job(words)
