"""Train a head on an exported encoder: ordinal classification, or segmentation.

  python finetune.py --task segmentation                       on the phantom's labels
  python finetune.py --task classification --freeze            keep the encoder as it is
  python finetune.py --task segmentation --label-fraction 0.05 with 5 % of the labelled patients
  python finetune.py --task classification --encoder none      from scratch, the paper's first row
  python finetune.py --task classification --data DIR --labels CSV --label-encoding categorical
  python finetune.py --task segmentation --data DIR --masks DIR   masks found by the images' names

An exported encoder sets image size, backbone, weights, width and crop.

The labels CSV has a column path (relative to --data: DICOM, PNG or JPEG) and a column label (a
class name or an integer) or mask (an 8-bit indexed PNG of the image's size, 0 is background).
Optional columns are frame (of a cine, from 0), patient, and split (train, validation, test).
Without patient, the DICOM header tells patients apart. Without split, patients are split 80/10/10.

The run's folder receives configuration, history, TensorBoard events, pictures and result.json, the
measures on the test set. test.csv has the measures by image, test.html shows the worst images, and
split.csv lists the split. These three name paths and patients; only you can read them. The head is
exported to <export>/<task>/<version>/.
"""

import argparse

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import HEAD_PRESETS, FinetuneConfig, finetune_config, preset_of
from tf_dicom_ce.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; the default None stands for the preset's value."""
    add = parser.add_argument
    add(
        "--encoder",
        default="export/encoder",
        metavar="DIR",
        help="exported encoder (default: export/encoder, its newest version), an encoder.keras, "
        "or none to train from scratch",
    )
    arguments.add_labelled_arguments(parser)
    add(
        "--preset",
        choices=HEAD_PRESETS,
        help="initial settings (default: full, here the same as paper; phantom: quick)",
    )
    arguments.add_settings(parser, FinetuneConfig)
    arguments.add_run_arguments(parser, "<task>")


def configure(options: argparse.Namespace) -> FinetuneConfig:
    """The preset with the given settings, as if the encoder agreed with all of them."""
    given = arguments.given_settings(options, FinetuneConfig)
    return finetune_config(options.task, preset_of(options.preset, options.data), given)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

    if options.task is None:
        raise UserError("--task: give classification or segmentation.")
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
