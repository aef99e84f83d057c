"""Settings of a pretraining run as a TOML file: `train --config`, and what `tune` writes."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.whole_files import write_text


def read_config(path: Path) -> dict[str, Any]:
    """Reads some or all settings of a `PretrainConfig`.

    Args:
        path: A file of lines like `epochs = 40`; the keys are the fields of `PretrainConfig`.

    Returns:
        Field -> value, of the type the field has.

    Raises:
        UserError: It cannot be read, is not TOML, or has an unknown key or a value of another
            type; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}.") from None
    except ValueError as error:  # also what is not TOML, or not UTF-8
        raise UserError(f"--config {path}: {error}.") from None
    kinds = {field.name: field.type for field in dataclasses.fields(PretrainConfig)}
    settings = {}
    for key, value in content.items():
        if key not in kinds:
            raise UserError(
                f"{_place(path, text, key)}: unknown setting '{key}'. "
                f"The settings are {', '.join(kinds)}."
            )
        try:
            settings[key] = _convert(value, kinds[key])
        except ValueError as error:
            raise UserError(f"{_place(path, text, key)}: {key} {error}.") from None
    return settings


def write_config(path: Path, config: PretrainConfig) -> None:
    """Writes all settings so that the file is whole at any moment."""
    lines = (
        f"{key} = {_format(value)}\n"
        for key, value in dataclasses.asdict(config).items()
        if value is not None  # TOML has no word for it; it is the default where it is allowed
    )
    write_text(path, "".join(lines))


def _place(path: Path, text: str, key: str) -> str:
    key_or_table = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[].=]""")
    for number, line in enumerate(text.splitlines(), 1):
        if key_or_table.match(line):
            return f"--config {path}, line {number}"
    return f"--config {path}"


def _convert(value: Any, kind: Any) -> Any:
    if kind == tuple[int, int]:
        if isinstance(value, list) and [type(side) for side in value] == [int, int]:
            return tuple(value)
        raise ValueError(f"must be two whole numbers, [height, width], not {_format(value)}")
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"must be {_NAMES.get(kind, kind)}, not {_format(value)}")
    return value


_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
}


def _format(value: Any) -> str:
    """A value in TOML, whose texts, lists and booleans are written as in JSON."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
