"""Settings as a TOML file: `--config`, the result of `tune`, and the tables of a study."""

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from tf_dicom_ce.config import PretrainConfig, problem
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.whole_files import write_text


def read_config(path: Path, kind: type) -> dict[str, Any]:
    """Reads settings, such as `epochs = 40`, whose keys are fields of the configuration `kind`.

    Raises:
        UserError: The file cannot be read, is not TOML, or has an unknown key or a value that the
            field does not allow; the message names file and line.
    """
    content = read_toml(path, "--config ")
    check_settings(content, kind, lambda key: _place(path, key))
    return content


def read_toml(path: Path, option: str = "") -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        UserError: The file cannot be read, or is not TOML; the message begins with `option`.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{option}{path}: {error.strerror}. Give a TOML file.") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise UserError(f"{option}{path}: {error}.") from None


def check_settings(
    content: Mapping[str, Any], kind: type, place: Callable[[str], str], others: Container[str] = ()
) -> None:
    """Checks settings of a file against the fields of the configuration `kind`.

    Raises:
        UserError: A key that is neither a setting nor one of `others`, or a value that its field
            does not allow; `place` gives the file and line of a key.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in content.items():
        if key not in fields and key not in others:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            known = f"The settings are {', '.join(fields)}."
            raise UserError(f"{place(key)}: unknown setting '{key}'.{hint} {known}")
        if key in fields and (wrong := problem(fields[key], value)):
            raise UserError(f"{place(key)}: {key} = {_format(value)}: {wrong}.")


def write_settings(path: Path, config: PretrainConfig) -> None:
    """Writes all settings; the file is whole at any moment."""
    settings = dataclasses.asdict(config)
    write_text(path, "".join(f"{key} = {_format(value)}\n" for key, value in settings.items()))


def _place(path: Path, key: str) -> str:
    key_or_table = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[].=]""")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if key_or_table.match(line):
            return f"--config {path}, line {number}"
    return f"--config {path}"


def _format(value: Any) -> str:
    """A value in TOML; texts, lists and booleans are written as in JSON."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
