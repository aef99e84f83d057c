"""Variables by their paths, so that what is saved goes back to where it was, whatever the order.

A path such as `unet/up1/up/kernel` has to be the same in every process. Keras numbers what has no
name of its own by what was built before (`fused_adam_1`), so layers, optimizers and seeds whose
variables are saved have names.
"""

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from tf_dicom_ce.errors import UserError


def by_path(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    """Path -> variable.

    Raises:
        ValueError: Two variables have the same path.
    """
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        if found.setdefault(variable.path, variable) is not variable:
            raise ValueError(f"Two variables have the path {variable.path}. Name their owners.")
    return found


def state_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All that a step reads or changes: weights, statistics, seeds, optimizers, running means."""
    optimizers = [
        value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)
    ]
    return by_path(
        [
            *model.variables,
            *(variable for optimizer in optimizers for variable in optimizer.variables),
            *model.metrics_variables,
        ]
    )


def values_of(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Path -> a copy of the value."""
    return {path: variable.numpy() for path, variable in variables.items()}


def require_match(
    variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]
) -> None:
    """Checks that there is a value of the right shape and dtype for each variable, and no more.

    Raises:
        UserError: There is not; the message names the variable.
    """
    for path in [*variables, *values]:
        ours = _form(variables[path]) if path in variables else "no such variable"
        saved = _form(values[path]) if path in values else "no such variable"
        if saved != ours:
            raise UserError(
                f"{path}: the checkpoint has {saved}, this model has {ours}. The checkpoint is of "
                "another model than these settings give, or of an earlier version. Repeat the "
                "run's command, or start anew in another --run."
            )


def assign(variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Gives every variable the value of its path.

    Raises:
        UserError: See `require_match`; nothing was changed.
    """
    require_match(variables, values)
    for path, variable in variables.items():
        variable.assign(values[path])


def _form(array: keras.Variable | np.ndarray) -> str:
    """E.g. `float32 (3, 4)`."""
    return f"{array.dtype} {tuple(array.shape)}"
