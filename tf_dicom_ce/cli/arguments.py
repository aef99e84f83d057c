"""Options of the commands: settings, which are fields of a configuration, and other options."""

import argparse
import dataclasses
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tf_dicom_ce.config import PretrainConfig, flag
from tf_dicom_ce.config_file import read_config
from tf_dicom_ce.errors import UserError

_METAVARS = {int: "N", float: "X", tuple[int, int]: ("H", "W")}


def add_settings(
    parser: argparse.ArgumentParser, kind: type, names: Collection[str] | None = None
) -> None:
    """Declares options for the settings `names` of a configuration; None: all, and `--config`.

    The default None stands for the value of file or preset.
    """
    place = parser
    if names is None:
        place = parser.add_argument_group(
            "settings", "also keys of the TOML file of --config; options override the file"
        )
        text = "settings that override the preset's"
        place.add_argument("--config", type=Path, metavar="TOML", help=text)
    for field in dataclasses.fields(kind):
        if names is None or field.name in names:
            place.add_argument(flag(field.name), **_words(field))


def _words(field: dataclasses.Field) -> dict[str, Any]:
    rules, kind = field.metadata, field.type
    words: dict[str, Any] = {"help": rules["help"]}
    if kind is bool:
        return words | {"action": argparse.BooleanOptionalAction}
    if kind == tuple[str, ...]:
        words["help"] += f": {', '.join(rules['choices'])}"
        return words | {"action": "append", "metavar": rules["metavar"]}
    if "choices" in rules:
        return words | {"choices": rules["choices"]}
    words["metavar"] = rules.get("metavar") or _METAVARS.get(kind, "NAME")
    if kind == tuple[int, int]:
        return words | {"type": int, "nargs": 2}
    return words | {"type": kind}


def given_settings(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """Returns settings of the `--config` file, if any; those of the command line override them."""
    file = getattr(options, "config", None)
    given = read_config(file, kind) if file else {}
    for field in dataclasses.fields(kind):
        if (value := getattr(options, field.name, None)) is not None:
            given[field.name] = value
    return {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}


def add_labelled_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options that name labelled images."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="folder of the images (default: the phantom)")
    text = "labels of the images in --data; without --data, a table of the phantom: recognition.csv"
    add("--labels", type=Path, metavar="CSV", help=text)
    add("--masks", type=Path, metavar="DIR", help="masks (PNG), named as the images in --data")
    add("--class-names", nargs="+", metavar="NAME", help="classes, in their order")


def add_labels_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for tables of tag values."""
    text = (
        "tag values for cleaned headers, or for PNG and JPEG: columns path, StudyDescription, "
        "TransducerData, … and optionally patient; or a table of `tf-dicom-ce audit`. May be given "
        "several times: later files override earlier ones"
    )
    parser.add_argument("--labels", type=Path, action="append", metavar="CSV", help=text)


def add_include_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for other images than those of ultrasound SOP classes."""
    text = "also read captured screens if their Modality is US"
    choices = ("secondary-capture",)
    parser.add_argument("--include", action="append", choices=choices, help=text)


def add_audit_log_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for the record of answers."""
    text = "record each answer: time, user, study (pseudonym), model, results (default: none)"
    parser.add_argument("--audit-log", type=Path, metavar="FILE", help=text)


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for the processes that read and decode files."""
    text = "Dask scheduler whose workers read and decode files, e.g. tcp://127.0.0.1:8786"
    parser.add_argument("--engine", metavar="URL", help=f"{text} (default: this machine's cores)")


def add_codes_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for codes of classes in DICOM results."""
    text = "TOML with codes of classes, e.g. SNOMED; overrides built-in codes (docs/serving.md)"
    parser.add_argument("--codes", type=Path, metavar="TOML", help=text)


def add_pacs_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the query for a PACS."""
    add = parser.add_argument_group(
        "PACS",
        "for a DICOMweb service, https://HOST/dicom-web, or a DIMSE archive, "
        "dicom://AET@HOST:PORT. Set the credentials of the service in the environment: "
        "TF_DICOM_CE_PACS_TOKEN, or TF_DICOM_CE_PACS_USER and TF_DICOM_CE_PACS_PASSWORD. They go "
        "over http only if TF_DICOM_CE_PACS_UNENCRYPTED=yes is set. TF_DICOM_CE_PACS_AET sets the "
        "AE title of this program for the archive (default: TF-DICOM-CE)",
    ).add_argument
    add("--pacs-modality", default="US", metavar="M", help="modality (default: US)")
    add("--pacs-dates", default="", metavar="A-B", help="study dates, e.g. 20240101-20241231")
    add("--pacs-description", default="", metavar="TEXT", help="study description; * and ? allowed")


def query_of(options: argparse.Namespace):
    """Returns the `Query` of these options."""
    from tf_dicom_ce.intake.query import Query

    return Query(options.pacs_modality, options.pacs_dates, options.pacs_description)


def add_report_arguments(
    parser: argparse.ArgumentParser, name: str, settings: Collection[str]
) -> None:
    """Declares the source of a report, how it is read, and the folder of the report."""
    add = parser.add_argument
    add("source", metavar="SRC", help="folder, zip or tar of DICOM files, or URL")
    folder = f"folder to write to (default: runs/<time>-{name})"
    add("--run", type=Path, metavar="DIR", help=folder)
    add_settings(parser, PretrainConfig, settings)
    add_labels_argument(parser)
    add_include_argument(parser)
    add_engine_argument(parser)
    add_pacs_arguments(parser)


def report_folder(given: Path | None, name: str, files: Collection[str]) -> Path:
    """Returns the folder of a report with `files`, by default runs/<time>-`name`.

    Raises:
        UserError: The folder holds other files.
    """
    folder = given or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    foreign = {path.name for path in folder.glob("*")} - set(files)
    if foreign:
        raise UserError(
            f"--run {folder}: holds files that are not a report ({min(foreign)}). Choose another "
            "folder."
        )
    return folder


def add_run_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declares the folder of a run, by default runs/<time>-`default`, and how it is saved."""
    add = parser.add_argument
    folder = f"the run's folder (default: runs/<time>-{default})"
    add("--run", type=Path, metavar="DIR", help=folder)
    add("--export", type=Path, default=Path("export"), metavar="DIR", help="model repository")
    no_export = "keep the weights in the run's folder, but export no SavedModel"
    add("--no-export", dest="export", action="store_const", const=None, help=no_export)
    resume = "continue the run in --run, or begin it; only --epochs may be larger than at first"
    add("--resume", action="store_true", help=resume)
    minutes = "minutes between two checkpoints within an epoch (default: 10)"
    add("--checkpoint-minutes", type=float, default=10.0, metavar="X", help=minutes)
    add("--checkpoint-steps", type=int, metavar="N", help="also save every N steps")
    choices = ("none", "mirrored", "multiworker")
    where = "one device, all of this machine, or several machines (TF_CONFIG); docs/devices.md"
    add("--strategy", choices=choices, default="none", help=where)


def run_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `pretrain` and `finetune` in these options."""
    names = ("run", "export", "resume", "checkpoint_minutes", "checkpoint_steps", "strategy")
    return {name: getattr(options, name) for name in names}
