"""JSON to tensors and back, in the REST dialect of TensorFlow Serving.

Source: tensorflow_serving/g3doc/api_rest.md and tensorflow_serving/util/json_tensor.cc, whose
words the errors use. Requests are read with the standard library, which knows `NaN` and `Infinity`;
answers are written with orjson, which writes 300,000 float32 in milliseconds, each with the fewest
digits that give the same float32 again.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from tf_dicom_ce.serving.errors import RequestError
from tf_dicom_ce.serving.json_values import is_base64, load, quoted, to_array

#: The most instances in a request: a small request must not ask for gigabytes of answers.
MOST_INSTANCES = 32
_DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        name: Its name in requests and answers.
        dtype: NumPy's type; object for strings.
        shape: None where any size goes; None altogether where any shape goes.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What can be asked of a model.

    Attributes:
        name: As in `signature_name`.
        inputs: By name.
        outputs: By name.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def parse_predict(
    body: bytes, signatures: Mapping[str, Signature]
) -> tuple[Signature, dict[str, np.ndarray], bool]:
    """Reads the body of a predict request.

    Args:
        body: JSON with `instances` (rows) or `inputs` (columns), perhaps `signature_name`.
        signatures: Of the model, by name.

    Returns:
        The signature; its inputs by name, of its dtypes and of shapes that fit; whether the
        request, and so the answer, is in rows.

    Raises:
        RequestError: 400, or 413 for more than two million values.
    """
    try:
        return _parse(body, signatures)
    except RecursionError:
        raise RequestError(400, "JSON Parse error: nested too deeply") from None


def format_predict(outputs: Mapping[str, np.ndarray], row: bool, signature: Signature) -> bytes:
    """Writes the body of an answer to a predict request.

    Args:
        outputs: By name; strings as arrays of bytes objects.
        row: Whether the request was in rows.
        signature: What was asked.

    Returns:
        JSON with `predictions` (rows) or `outputs` (columns). The name is left out if there is
        but one output; strings of a name that ends in `_bytes` become `{"b64": …}`.

    Raises:
        RequestError: 400, rows were asked for but the outputs are no rows.
    """
    arrays = {name: _writable(name, outputs[name]) for name in signature.outputs}
    if row:
        _require_rows(outputs)
    if len(arrays) == 1:
        (content,) = arrays.values()
    elif row:
        content = [
            dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)
        ]
    else:
        content = arrays
    answer = {"predictions" if row else "outputs": content}
    if not all(np.isfinite(a).all() for a in outputs.values() if a.dtype.kind == "f"):
        return json.dumps(answer, default=_as_lists).encode()  # NaN, Infinity
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _parse(body, signatures):
    document = load(body)
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise RequestError(
            400,
            f"JSON Value: {quoted(document)} not formatted correctly. "
            "'signature_name' key must be a string value.",
        )
    signature = signatures.get(name or _DEFAULT_SIGNATURE)
    if signature is None:
        raise RequestError(
            400,
            f'Serving signature name: "{(name or _DEFAULT_SIGNATURE)[:200]}" '
            "not found in signature def",
        )
    row = "instances" in document
    if row and "inputs" in document:
        raise RequestError(
            400,
            f"JSON Value: {quoted(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist ",
        )
    if row:
        inputs = _from_rows(document, signature)
    elif "inputs" in document:
        inputs = _from_columns(document["inputs"], signature)
    else:
        raise RequestError(400, "Missing 'inputs' or 'instances' key")
    for name, array in inputs.items():
        if (expected := signature.inputs[name].shape) is not None:
            _require_shape(name, array.shape, expected)
    return signature, inputs, row


def _from_rows(document: dict, signature: Signature) -> dict[str, np.ndarray]:
    rows, names = document["instances"], sorted(signature.inputs)
    if type(rows) is not list:
        raise RequestError(
            400, f"JSON Value: {quoted(document)} Excepting 'instances' to be an list/array"
        )
    if not rows:
        raise RequestError(400, f"JSON Value: {quoted(document)} No values in 'instances' array")
    if len(rows) > MOST_INSTANCES:
        raise RequestError(400, f"{len(rows)} instances: at most {MOST_INSTANCES} in a request")
    if type(rows[0]) is not dict and len(names) > 1:
        raise RequestError(
            400,
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        )
    objects = _is_object(rows[0])
    columns = {name: [] for name in names}
    for k, row in enumerate(rows):
        if _is_object(row) != objects:
            expected = "object but got list" if objects else "value/list but got object"
            raise RequestError(400, f"Expecting {expected} at item {k} of input list")
        for name, value in row.items() if objects else [(names[0], row)]:
            try:
                _add(value, name, signature, columns)
            except RequestError as error:
                key = f" key: {name[:200]}" if objects else ""
                raise RequestError(
                    error.status,
                    f"Failed to process element: {k}{key} of 'instances' list. "
                    f"Error: INVALID_ARGUMENT: {error.message}",
                ) from None
        if objects and set(row) != set(names):
            raise RequestError(
                400,
                f"Failed to process element: {k} of 'instances' list. "
                f"JSON object: {quoted(row)} keys must be equal to: {','.join(names)}",
            )
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _add(value: Any, name: str, signature: Signature, columns: dict[str, list]) -> None:
    if name not in signature.inputs:
        raise RequestError(400, f"JSON object: does not have named input: {name[:200]}")
    array = to_array(value, signature.inputs[name].dtype)
    first = columns[name][0] if columns[name] else array
    if first.size != array.size:
        raise RequestError(400, f"Expecting tensor size: {first.size} but got: {array.size}")
    if first.shape != array.shape:
        raise RequestError(
            400, f"Expecting shape {_bracketed(first.shape)} but got: {_bracketed(array.shape)}"
        )
    columns[name].append(array)


def _from_columns(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    specs = signature.inputs
    if not _is_object(value):
        if len(specs) > 1:
            raise RequestError(
                400,
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            )
        value = dict.fromkeys(specs, value)
    for name in specs:
        if name not in value:
            raise RequestError(400, f"Missing named input: {name} in 'inputs' object.")
    return {name: to_array(value[name], spec.dtype) for name, spec in specs.items()}


def _is_object(value: Any) -> bool:
    return type(value) is dict and not is_base64(value)


def _require_shape(name, shape, expected) -> None:
    if len(shape) != len(expected) or any(
        b not in (None, a) for a, b in zip(shape, expected, strict=True)
    ):
        raise RequestError(
            400,
            f"input {name}: shape {_bracketed(shape)} does not fit "
            f"{_bracketed(-1 if size is None else size for size in expected)}",
        )


def _bracketed(shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _require_rows(outputs: Mapping[str, np.ndarray]) -> None:
    batch = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise RequestError(400, f"Tensor name: {name} has no shape information ")
        if batch not in (None, len(array)):
            raise RequestError(
                400,
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}",
            )
        batch = len(array)


def _writable(name: str, array: np.ndarray) -> Any:
    """What orjson can write: a contiguous array, a NumPy scalar, or lists of strings."""
    if array.dtype.kind not in "biufO":
        message = f"Failed to write JSON value for tensor type: {array.dtype.name}"
        raise RequestError(400, message)
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array) if array.ndim else array[()]
    if name.endswith("_bytes"):
        convert = np.frompyfunc(lambda value: {"b64": base64.b64encode(value).decode()}, 1, 1)
    else:
        convert = np.frompyfunc(lambda value: value.decode(errors="replace"), 1, 1)
    return convert(array).tolist() if array.ndim else convert(array)


def _as_lists(value: Any) -> Any:
    """An array as lists; a float32 as the double with the fewest digits that mean the same."""
    value = np.asarray(value)
    return (value.astype(str).astype(np.float64) if value.dtype == np.float32 else value).tolist()
