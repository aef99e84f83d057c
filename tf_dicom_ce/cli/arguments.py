"""Options of the commands: settings, which are fields of a configuration, and what is none."""

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

    A default of None means: as file and preset say.
    """
    place = parser
    if names is None:
        place = parser.add_argument_group(
            "settings", "also keys of the TOML file of --config; options stand above the file"
        )
        text = "settings that stand above the preset's"
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
    """Settings of the file of `--config`, if any, and above them those of the command line."""
    file = getattr(options, "config", None)
    given = read_config(file, kind) if file else {}
    for field in dataclasses.fields(kind):
        if (value := getattr(options, field.name, None)) is not None:
            given[field.name] = value
    return {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}


def add_labelled_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares where labelled images are."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="folder of the images (default: the phantom)")
    text = "labels of the images in --data; without it, of the phantom: recognition.csv"
    add("--labels", type=Path, metavar="CSV", help=text)
    add("--masks", type=Path, metavar="DIR", help="masks (PNG), named as the images in --data")
    add("--class-names", nargs="+", metavar="NAME", help="classes, in their order")


def add_labels_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the table of tag values."""
    text = (
        "tag values for cleaned headers, or for PNG and JPEG: columns path and StudyDescription, "
        "TransducerData, …; perhaps patient; or what `tf-dicom-ce audit` wrote; given several "
        "times, a later one stands above"
    )
    parser.add_argument("--labels", type=Path, action="append", metavar="CSV", help=text)


def add_include_argument(parser: argparse.ArgumentParser) -> None:
    """Declares what is read besides ultrasound images as such."""
    text = "read captured screens, too, where Modality is US"
    choices = ("secondary-capture",)
    parser.add_argument("--include", action="append", choices=choices, help=text)


def add_audit_log_argument(parser: argparse.ArgumentParser) -> None:
    """Declares where answers are recorded."""
    text = "record each answer there: when, who, study (pseudonym), model, results (default: none)"
    parser.add_argument("--audit-log", type=Path, metavar="FILE", help=text)


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """Declares who reads and decodes files."""
    text = "Dask scheduler whose workers read and decode files, as tcp://127.0.0.1:8786"
    parser.add_argument("--engine", metavar="URL", help=f"{text} (default: this machine's cores)")


def add_codes_argument(parser: argparse.ArgumentParser) -> None:
    """Declares what class names mean in DICOM results."""
    text = "TOML of codes of classes, e.g. SNOMED, above the built-in ones (docs/serving.md)"
    parser.add_argument("--codes", type=Path, metavar="TOML", help=text)


def add_pacs_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what to ask a PACS for."""
    add = parser.add_argument_group(
        "PACS",
        "if the data are a DICOMweb service, https://HOST/dicom-web, or an archive by DIMSE, "
        "dicom://AET@HOST:PORT. Credentials for the one come from the environment: "
        "TF_DICOM_CE_PACS_TOKEN, or TF_DICOM_CE_PACS_USER and _PASSWORD; they go over http only if "
        "TF_DICOM_CE_PACS_UNENCRYPTED=yes is set. To the other this program is TF-DICOM-CE, or "
        "what TF_DICOM_CE_PACS_AET says",
    ).add_argument
    add("--pacs-modality", default="US", metavar="M", help="default: US")
    add("--pacs-dates", default="", metavar="A-B", help="e.g. 20240101-20241231")
    add("--pacs-description", default="", metavar="TEXT", help="of the study; may hold * and ?")


def query_of(options: argparse.Namespace):
    """The `Query` that these options are."""
    from tf_dicom_ce.intake.query import Query

    return Query(options.pacs_modality, options.pacs_dates, options.pacs_description)


def add_report_arguments(
    parser: argparse.ArgumentParser, name: str, settings: Collection[str]
) -> None:
    """Declares what a report is of, how it is read, and where the report goes."""
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
    """The folder of a report of `files`, by default runs/<time>-`name`.

    Raises:
        UserError: It holds something else.
    """
    folder = given or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    foreign = {path.name for path in folder.glob("*")} - set(files)
    if foreign:
        raise UserError(
            f"--run {folder}: holds something else than a report ({min(foreign)}). Choose another "
            "folder."
        )
    return folder


def add_run_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declares where a run goes, by default runs/<time>-`default`, and how it is saved."""
    add = parser.add_argument
    folder = f"the run's folder (default: runs/<time>-{default})"
    add("--run", type=Path, metavar="DIR", help=folder)
    add("--export", type=Path, default=Path("export"), metavar="DIR", help="model repository")
    no_export = "keep the weights in the run's folder, but export no SavedModel"
    add("--no-export", dest="export", action="store_const", const=None, help=no_export)
    resume = "go on with the run in --run, which the same command has begun, perhaps with fewer"
    add("--resume", action="store_true", help=f"{resume} --epochs; or begin it")
    minutes = "minutes between two checkpoints within an epoch (default: 10)"
    add("--checkpoint-minutes", type=float, default=10.0, metavar="X", help=minutes)
    add("--checkpoint-steps", type=int, metavar="N", help="steps between two, besides")
    choices = ("none", "mirrored", "multiworker")
    where = "one device, all of this machine, or several machines (TF_CONFIG); docs/devices.md"
    add("--strategy", choices=choices, default="none", help=where)


def run_settings(options: argparse.Namespace) -> dict[str, Any]:
    """These options as arguments of `pretrain` and `finetune`."""
    names = ("run", "export", "resume", "checkpoint_minutes", "checkpoint_steps", "strategy")
    return {name: getattr(options, name) for name in names}
