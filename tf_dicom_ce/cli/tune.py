"""Search for settings of the pretraining with keras-tuner.

  tf-dicom-ce tune --data DIR --trials 30 --epochs 40 --run runs/tune    start, or continue
  tf-dicom-ce tune --data DIR --trials 10 --search lambda_adv,width --run runs/few
  python train.py --data DIR --config runs/tune/best.toml --epochs 200   train with the best

The search varies lambda_adv (lambda_rec is 1 - lambda_adv), g_learning_rate, d_learning_rate,
width, discriminator_input, adversarial and spectral_norm around the preset. A setting given by an
option, such as --width 0.5, is not searched. The objective is L_rec on the validation images, which
depends on no lambda. It favours a small lambda_adv: check with finetune or probe whether the
encoder is better downstream. --epochs is the number per trial. Other options of `train` hold for
all trials.

Each trial runs in its own process. To continue a search that was stopped or killed, repeat the
command. The folder receives trials.csv, best.toml and trials/<id>/ with log, run and encoder.
`tensorboard --logdir <folder>` shows all trials. For several machines see docs/tuning.md.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_dicom_ce.child_process import python_module
from tf_dicom_ce.cli import train
from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.errors import UserError

COMMAND = python_module("tf_dicom_ce.cli.tune_trial")
_PLACES = ("data", "labels")
_ELSEWHERE = ("export", "no_export", "resume")  # options of `train` without a meaning here
_OWN = ("trials", "search", "run", "config", "command", "execute", *_ELSEWHERE, *_PLACES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `train` and those of `tune`."""
    train.add_arguments(parser)
    parser.conflict_handler = "resolve"  # some options of train have another meaning here
    add = parser.add_argument_group("search").add_argument
    add("--trials", type=int, default=20, metavar="N", help="default: 20; may be raised later")
    add("--search", metavar="A,B", help="search only these settings (default: all)")
    add("--run", type=Path, metavar="DIR", help="the search's folder (default: runs/<time>-tune)")
    add("--config", type=Path, metavar="TOML", help="initial settings; override the preset's")
    for name in ("--export", "--no-export", "--resume"):
        add(name, nargs="?", const=True, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    if any(getattr(options, name) is not None for name in _ELSEWHERE):
        raise UserError(
            "--export and --resume do not apply: every trial exports into its own folder, and a "
            "search continues when its command is repeated."
        )
    if options.trials < 1:
        raise UserError(f"--trials {options.trials}: choose 1 or more.")
    base = train.configure(options)
    settings = [field.name for field in dataclasses.fields(PretrainConfig)]
    given = [name for name in settings if getattr(options, name, None) is not None]
    folder = options.run or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-tune"

    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.tuning import space

    names = space.choose(options.search, given)
    environment = dict(os.environ)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # GPUs are for the trials, not for this process
    load_tensorflow()  # keras-tuner needs it
    from tf_dicom_ce.tuning.search import Plan, tune

    told = vars(options)
    words = words_of({name: told[name] for name in told if name not in {*settings, *_OWN}})
    places = words_of({name: told[name] for name in _PLACES})
    tune(Plan(folder, base, names, options.trials, COMMAND, words, environment, places))


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Options of `train` as words of its command line, without None, False and ""."""
    words = []
    for name, value in options.items():
        if value in (None, False, ""):
            continue
        option = "--" + name.replace("_", "-")
        for one in value if isinstance(value, list) else [value]:  # given several times
            words += [option] if one is True else [option, str(one)]
    return words
