"""Look at a folder, archive or PACS: which files can be read, and which tags they carry.

  tf-dicom-ce index DIR
  tf-dicom-ce index EXPORT.zip --tags mine.toml
  tf-dicom-ce index https://HOST/dicom-web --pacs-dates 20240101-20241231
  tf-dicom-ce index dicom://AET@HOST:104
  tf-dicom-ce index DIR --decode --engine tcp://HOST:8786     decode in advance, on a cluster

Prints the coverage report and writes coverage.html, coverage.md, coverage.json and files.csv (one
row per file) into --run. If values are unmapped, also tags.toml, a schema that lists them for you
to fill in. These files quote tag values and paths: keep them where the images are kept. A second
call reads only the files that have changed.

With --decode, also decodes all images into the store, where `train` with the same settings finds
them. The report then lists the images that cannot be decoded, and the flags that decoding gave.
"""

import argparse

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import PretrainConfig

_SETTINGS = ("tags", "find_sector", "blank_outside", "exclude", "image_size", "frames")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    arguments.add_report_arguments(parser, "index", _SETTINGS)
    text = "also decode the images, at --image-size and --frames, for later trainings"
    parser.add_argument("--decode", action="store_true", help=text)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.workers import warm_up

    warm_up()
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.data.ultrasound import UltrasoundDataset
    from tf_dicom_ce.intake.coverage_report import FILES, summary, write_coverage
    from tf_dicom_ce.intake.schema_skeleton import SKELETON, write_skeleton

    folder = arguments.report_folder(options.run, "index", (*FILES, SKELETON))
    source = UltrasoundDataset.from_dicom(
        options.source,
        labels=options.labels,
        query=arguments.query_of(options),
        include=options.include or (),
        **arguments.given_settings(options, PretrainConfig),
    ).source
    index, undecodable = source.index, {}
    print(f"{index.read} files read; the others are unchanged since an earlier scan.")
    if options.decode:
        load_tensorflow()
        index, undecodable = source.decoded_index()
        print(f"{source.frames.decoded} images decoded; the others were there already.")
    write_coverage(index, folder, undecodable, source.reader)
    print(summary(index, undecodable))
    print(f"\nCoverage report: {folder / 'coverage.html'}")
    if done := write_skeleton(index, source.settings["tags"], folder):
        print(done)
