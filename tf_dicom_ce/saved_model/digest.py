"""The digest of a model's weights: tells two models apart that were trained on the same data.

Before an exported model is used, its weights are compared with the digest that its `<name>.json`
got at export.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.errors import UserError

_VARIABLE = re.compile(r"variables/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")


def digest_of(values: Iterable[np.ndarray]) -> str:
    """SHA-256 (hex) of "0 ‖ form₀ ‖ bytes₀ ‖ 1 ‖ form₁ ‖ bytes₁ ‖ …", form and number as a line.

    Args:
        values: Of all variables of a model, in its order.

    Returns:
        64 hexadecimal digits. The line of variable k is e.g. "0 float32 3x3x1x64"; its bytes are
        little-endian, in C order.
    """
    digest = hashlib.sha256()
    for k, value in enumerate(values):
        digest.update(f"{k} {value.dtype.name} {'x'.join(map(str, value.shape))}\n".encode())
        digest.update(value.astype(value.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def weights_digest(folder: Path) -> str:
    """`digest_of` an exported model, from the files of its version alone.

    The model's variables are in the SavedModel's checkpoint under `variables/<k>`, k being their
    place in Keras' `model.variables`, which the architecture alone decides: names, which depend on
    what else a process built, have no part in it. The checkpoint also holds each of them as
    `_all_variables/<n>`, in an order that no two exports share; no signature reads these.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        # All of it is read, so that a file that was cut anywhere is found.
        found = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # of many kinds, some of which are not TensorFlow's own
        raise UserError(
            f"{folder / 'variables'}: cannot be read ({type(error).__name__}). Copy the whole "
            "folder again, or export the model again."
        ) from None
    places = {int(match[1]): name for name in found if (match := _VARIABLE.fullmatch(name))}
    return digest_of(found[places[k]] for k in sorted(places))


def with_digest(content: dict, digest: str, file: Path) -> dict:
    """What a model says of itself, with `weights_digest`, which older exports lack.

    Args:
        content: Of its `<name>.json`.
        digest: Of the weights that are there.
        file: The file or folder that holds these weights.

    Raises:
        UserError: `content` is about other weights.
    """
    said = str(content.get("weights_digest", digest))
    if said != digest:
        raise UserError(
            f"{file}: the weights are not those of the JSON beside them: their digest is "
            f"{digest[:12]}…, and it says {said[:12]}…. Copy the whole folder again, or export "
            "the model again."
        )
    return {**content, "weights_digest": digest}
