"""Arguments of the commands that read images, and the index they lead to."""

import argparse
from pathlib import Path

from tf_dicom_ce.dicom.flags import Flag


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


def index_source(source: str, options: argparse.Namespace, schema, exclude: frozenset[Flag]):
    """Fetches, unpacks and scans; returns the `Index` without images that have these flags."""
    from tf_dicom_ce.workers import warm_up

    warm_up()
    from tf_dicom_ce.intake.index import scan
    from tf_dicom_ce.intake.tag_table import read_tag_table

    table = read_tag_table(options.labels, schema.elements) if options.labels else {}
    return scan(local_folder(source, options), schema, table, exclude=exclude)


def local_folder(source: str, options: argparse.Namespace) -> Path:
    """Fetches and unpacks; returns the folder of the files."""
    from tf_dicom_ce.intake.dicomweb import Query
    from tf_dicom_ce.intake.sources import open_source

    query = Query(options.pacs_modality, options.pacs_dates, options.pacs_description)
    return open_source(source, query)
