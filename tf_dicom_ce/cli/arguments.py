"""Arguments of the commands that read images, and of those that train."""

import argparse
from pathlib import Path
from typing import Any


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


def add_run_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declares where a run goes and how it is saved.

    Args:
        parser: The command's.
        default: Name of the default folder, for the help.
    """
    add = parser.add_argument
    add(
        "--run", type=Path, metavar="DIR", help=f"the run's folder (default: runs/<time>-{default})"
    )
    add("--export", type=Path, default=Path("export"), metavar="DIR", help="model repository")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --run, which the same command has begun, perhaps with fewer "
        "--epochs; or begin it",
    )
    add(
        "--checkpoint-minutes",
        type=float,
        default=10.0,
        metavar="X",
        help="minutes between two checkpoints within an epoch (default: 10)",
    )
    add("--checkpoint-steps", type=int, metavar="N", help="steps between two, besides")


def run_settings(options: argparse.Namespace) -> dict[str, Any]:
    """These options as arguments of `pretrain` and `finetune`."""
    names = ("run", "export", "resume", "checkpoint_minutes", "checkpoint_steps")
    return {name: getattr(options, name) for name in names}
