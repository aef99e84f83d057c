"""What is searched: one table, and what a point of it means for a run; what lies in its folder."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tf_dicom_ce.config import PretrainConfig, flag
from tf_dicom_ce.errors import UserError


@dataclass(frozen=True)
class Searched:
    """Where a setting is searched."""

    values: tuple  # to choose from; of a range, even on a log scale, both bounds
    relative: bool = False  # whether they multiply the preset's
    between: bool = False  # whether it is a range


#: What lies in the folder of a trial.
CONFIG, LOG, RESULT, EXPORT = "config.toml", "log.txt", "result.json", "export"
#: Setting of `PretrainConfig` -> where it is searched. λ_rec is always 1 − λ_adv.
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
        UserError: A name is not in the table, is given a value too, or none is left.
    """
    asked = list(SPACE)
    if search is not None:
        asked = [name.strip().replace("-", "_") for name in search.split(",") if name.strip()]
        for name in asked:
            if name not in SPACE:
                raise UserError(f"--search {name}: choose from {', '.join(SPACE)}.")
            if name in given:
                raise UserError(f"--search {name}: give it no value by {flag(name)} as well.")
    names = [name for name in SPACE if name in asked and name not in given]
    if not names:
        raise UserError("Nothing is left to search: every searched setting has been given.")
    return names


def resolve(names: Sequence[str], base: PretrainConfig) -> dict[str, dict]:
    """The space in absolute values, as plain JSON: relative ones multiply those of `base`.

    Returns:
        Setting -> {"low", "high", "default"} or {"values", "default"}; the default is the base's
        value, or the bound next to it.
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
    """The settings of a trial; numbers from a range keep three digits."""
    changes = {
        name: float(f"{value:.3g}") if SPACE[name].between else value
        for name, value in values.items()
    }
    if "lambda_adv" in changes:
        changes["lambda_rec"] = round(1 - changes["lambda_adv"], 7)
    return dataclasses.replace(base, **changes)
