"""Pretrain the context encoder on ultrasound DICOM and export its encoder.

  python train.py --use-dicom                            on the embedded synthetic phantom
  python train.py --use-dicom --data DIR                 the paper's method and size; needs a GPU
  python train.py --use-dicom --data DIR --preset paper  the paper to the letter
  python train.py --use-dicom --data FILE.zip            a zip or tar of DICOM
  python train.py --use-dicom --data https://HOST/dicom-web   a PACS
  python train.py --use-dicom --data dicom://AET@HOST:104     a PACS, by DIMSE
  python train.py --use-dicom --data DIR --labels CSV    tags from a CSV; PNG and JPEG as well
  python train.py --use-dicom --data DIR --preset quick  minutes on two CPU cores
  python train.py --no-use-dicom --data DIR              the control without tags (Eq. 1)
  python train.py --shuffle-tags --data DIR              the control with other patients' tags
  python train.py --no-use-dicom --lambda-tags 1 --data DIR   the encoder also predicts the tags
  python train.py --lambda-rec 0 --lambda-adv 0 --lambda-tags 1 --data DIR   predict tags only
  python train.py --teacher imagenet --data DIR          learn the features of a strong network

The run's folder receives the coverage report, configuration, split.csv, history, TensorBoard events
and inpainting panels; view them with `tensorboard --logdir runs`. The encoder is exported to
<export>/encoder/<version>/.
"""

import argparse
import dataclasses

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import PRESETS, PretrainConfig, preset_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; the default None stands for the preset's value."""
    add = parser.add_argument
    add("--data", metavar="SRC", help="folder, zip or tar of DICOM, or URL (default: the phantom)")
    add("--preset", choices=tuple(PRESETS), help="initial settings (default: full; phantom: quick)")
    arguments.add_settings(parser, PretrainConfig)
    arguments.add_labels_argument(parser)
    arguments.add_include_argument(parser)
    arguments.add_engine_argument(parser)
    arguments.add_pacs_arguments(parser)
    switch = argparse.BooleanOptionalAction
    add("--histograms", action=switch, default=False, help="also show weights in TensorBoard")
    arguments.add_run_arguments(parser, "pretrain")


def configure(options: argparse.Namespace) -> PretrainConfig:
    """The preset with the given settings."""
    given = arguments.given_settings(options, PretrainConfig)
    config = dataclasses.replace(PRESETS[preset_of(options.preset, options.data)], **given)
    config.require_teacher()
    return config


def run(options: argparse.Namespace) -> None:
    """Runs the command: source → data set → training → export."""
    config, preset = configure(options), preset_of(options.preset, options.data)

    from tf_dicom_ce.workers import warm_up

    warm_up()
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.data.ultrasound import SETTINGS, UltrasoundDataset
    from tf_dicom_ce.intake.coverage import require_tags

    reading = {name: getattr(config, name) for name in SETTINGS}
    reading |= {"labels": options.labels, "query": arguments.query_of(options)}
    reading |= {"include": options.include or ()}
    if options.data:
        data = UltrasoundDataset.from_dicom(options.data, **reading)
    else:
        data = UltrasoundDataset.from_phantom(preset, **reading)
    if config.uses_tags:
        require_tags(data.tags_known)

    # Only now: mistakes in the input are reported before this slow import.
    load_tensorflow(options.strategy != "multiworker", config)
    from tf_dicom_ce.training.pretrain import pretrain

    pretrain(
        data,
        preset,
        **arguments.run_settings(options),
        histograms=options.histograms,
        **arguments.given_settings(options, PretrainConfig),
    )
