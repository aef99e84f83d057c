"""Look at a folder of DICOM: which files can be read, and which tags they carry.

Writes coverage.md (for people), coverage.json and files.csv (one row a file) into --run. These
files quote tag values and paths: keep them where the images are kept.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of DICOM files")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--tags",
        default="ultrasound",
        metavar="NAME|TOML",
        help="tag schema: ultrasound (default), ultrasound-paper, or a TOML file",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.dicom.tags import TagSchema
    from tf_dicom_ce.intake.coverage import summary, write_coverage
    from tf_dicom_ce.intake.index import scan

    index = scan(options.source, TagSchema.load(options.tags))
    write_coverage(index, options.run)
    print(summary(index))
    print(f"\nCoverage report: {options.run / 'coverage.md'}")
