"""The search space, the settings of a point in it, and the files of a trial's folder."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tf_dicom_ce.config import PretrainConfig, flag
from tf_dicom_ce.errors import UserError


@dataclass(frozen=True)
class Searched:
    """The values of a searched setting."""

    values: tuple  # the choices, or both bounds of a range with a log scale
    relative: bool = False  # whether they multiply the preset's value
    between: bool = False  # whether it is a range


#: Files in the folder of a trial.
CONFIG, LOG, RESULT, EXPORT = "config.toml", "log.txt", "result.json", "export"
#: Setting of `PretrainConfig` -> its searched values. λ_rec is always 1 − λ_adv.
SPACE = {
    "lambda_adv": Searched((1e-4, 0.5), between=True),
    "g_learning_rate": Searched((0.1, 10), relative=True, between=True),
    "d_learning_rate": Searched((0.1, 10), relative=True, between=True),
    "width": Searched((0.25, 0.5, 1.0), relative=True),
    "discriminator_input": Searched(("patch", "composite")),
    "adversarial": Searched(("nonsaturating", "minimax", "hinge")),
    "spectral_norm": Searched((False, True)),
}


def choose(search: str | None, given: Sequence[str]) -> list[str]:
    """The settings to search: those in `search` (names with commas), or all that are not `given`.

    Raises:
        UserError: A name is not in the table, also has a given value, or no setting is left.
    """
    asked = list(SPACE)
    if search is not None:
        asked = [name.strip().replace("-", "_") for name in search.split(",") if name.strip()]
        for name in asked:
            if name not in SPACE:
                raise UserError(f"--search {name}: choose from {', '.join(SPACE)}.")
            if name in given:
                raise UserError(f"--search {name}: leave out {flag(name)}, which fixes its value.")
    names = [name for name in SPACE if name in asked and name not in given]
    if not names:
        raise UserError("Nothing is left to search: every searched setting has been given.")
    return names


def resolve(names: Sequence[str], base: PretrainConfig) -> dict[str, dict]:
    """The space in absolute values, as plain JSON: relative values multiply those of `base`.

    Returns:
        Setting -> {"low", "high", "default"} or {"values", "default"}. The default is the value of
        `base`, or the nearest bound.
    """
    space = {}
    for name in names:
        entry, value = SPACE[name], getattr(base, name)
        values = [v * value for v in entry.values] if entry.relative else list(entry.values)
        if entry.between:
            low, high = values
            space[name] = {"low": low, "high": high, "default": min(max(value, low), high)}
        else:
            space[name] = {"values": values, "default": value}
    return space


def configuration(base: PretrainConfig, values: dict[str, Any]) -> PretrainConfig:
    """The settings of a trial; numbers from a range are rounded to three digits."""
    changes = {
        name: float(f"{value:.3g}") if SPACE[name].between else value
        for name, value in values.items()
    }
    if "lambda_adv" in changes:
        changes["lambda_rec"] = round(1 - changes["lambda_adv"], 7)
    return dataclasses.replace(base, **changes)
