"""Arguments of the commands that read images."""

import argparse
from pathlib import Path


def add_labels_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the table of tag values."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="tag values for cleaned headers, or for PNG and JPEG: columns path and "
        "StudyDescription, TransducerData, …; perhaps patient",
    )


def add_pacs_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what to ask a PACS for."""
    group = parser.add_argument_group(
        "PACS",
        "if the data are the URL of a DICOMweb service; credentials come from the "
        "environment: TF_DICOM_CE_PACS_TOKEN, or TF_DICOM_CE_PACS_USER and _PASSWORD",
    )
    group.add_argument("--pacs-modality", default="US", metavar="M", help="default: US")
    group.add_argument("--pacs-dates", default="", metavar="A-B", help="e.g. 20240101-20241231")
    group.add_argument(
        "--pacs-description", default="", metavar="TEXT", help="of the study; may hold * and ?"
    )


def query_of(options: argparse.Namespace):
    """The `Query` that these options are."""
    from tf_dicom_ce.intake.dicomweb import Query

    return Query(options.pacs_modality, options.pacs_dates, options.pacs_description)
