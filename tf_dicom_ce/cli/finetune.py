"""Train a head on an exported encoder: ordinal classification, or segmentation.

  python finetune.py --task segmentation                       on the phantom's labels
  python finetune.py --task classification --freeze            the encoder stays as it is
  python finetune.py --task segmentation --label-fraction 0.05 with 5 % of the labelled patients
  python finetune.py --task classification --encoder none      from scratch, the paper's first row
  python finetune.py --task classification --data DIR --labels CSV --label-encoding categorical
  python finetune.py --task segmentation --data DIR --masks DIR   masks found by the images' names

An exported encoder brings its own image size, backbone, weights, width and crop.

The labels CSV has a column path (relative to --data: DICOM, PNG or JPEG), a column label (a class
name or an integer) or mask (an 8-bit indexed PNG of the image's size, 0 is background), and may
have columns frame (of a cine, from 0), patient, and split (train, validation, test). Without
patient, the DICOM header tells patients apart. Without split, 80/10/10 by patient.

The run's folder receives configuration, history, TensorBoard events, pictures and result.json with
the measures on the test set; test.csv has them by image, test.html shows the worst images, and
split.csv says which image went where (these three name paths and patients, and only you can read
them). The head goes to <export>/<task>/<version>/.
"""

import argparse

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import HEAD_PRESETS, FinetuneConfig, finetune_config, preset_of
from tf_dicom_ce.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; a default of None means: as the preset says."""
    add = parser.add_argument
    add(
        "--encoder",
        default="export/encoder",
        metavar="DIR",
        help="exported encoder (default: export/encoder, its newest version), an encoder.keras, "
        "or none: train from scratch",
    )
    arguments.add_labelled_arguments(parser)
    add(
        "--preset",
        choices=HEAD_PRESETS,
        help="starting settings (default: full, which is paper here; phantom: quick)",
    )
    arguments.add_settings(parser, FinetuneConfig)
    arguments.add_run_arguments(parser, "<task>")


def configure(options: argparse.Namespace) -> FinetuneConfig:
    """The preset with the settings that were given, as on an encoder that has all of them."""
    given = arguments.given_settings(options, FinetuneConfig)
    return finetune_config(options.task, preset_of(options.preset, options.data), given)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

    if options.task is None:
        raise UserError("--task: classification or segmentation?")
    settings = arguments.given_settings(options, FinetuneConfig)
    load_tensorflow(options.strategy != "multiworker")

    from tf_dicom_ce.training.finetune import finetune

    finetune(
        encoder=None if options.encoder == "none" else options.encoder,
        data=options.data,
        labels=options.labels,
        masks=options.masks,
        class_names=options.class_names,
        preset=options.preset,
        **arguments.run_settings(options),
        **settings,
    )
