"""Options of the command line from the fields of a configuration: one source, the same checks."""

import argparse
import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tf_dicom_ce.config import flag
from tf_dicom_ce.config_file import read_config

_METAVARS = {int: "N", float: "X", tuple[int, int]: ("H", "W")}


def add_settings(
    parser: argparse.ArgumentParser, kind: type, names: Collection[str] | None = None
) -> None:
    """Declares an option for every setting; a default of None means: as file and preset say.

    Args:
        parser: The command's.
        kind: `PretrainConfig` or `FinetuneConfig`.
        names: The settings that the command has; None for all, and `--config`.
    """
    place = parser
    if names is None:
        place = parser.add_argument_group(
            "settings", "also keys of the TOML file of --config; options stand above the file"
        )
        place.add_argument(
            "--config", type=Path, metavar="TOML", help="settings that stand above the preset's"
        )
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
    """Settings of the file of `--config`, and above them those of the command line."""
    read = read_config(options.config, kind) if options.config else {}
    names = (field.name for field in dataclasses.fields(kind))
    told = {name: found for name in names if (found := getattr(options, name)) is not None}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in (read | told).items()}
