"""Requests and answers of `:predict`: JSON to arrays and back.

The forms are those of TensorFlow Serving's REST API (tensorflow_serving/g3doc/api_rest.md), the
words of errors our own. The standard library reads requests, as it knows `NaN` and `Infinity`;
orjson writes answers: 300,000 float32 in milliseconds, each with as few digits as tell it apart.
"""

import base64
import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from tf_dicom_ce.errors import RequestError

#: The most instances in a request: a small request must not ask for gigabytes of answers.
MOST_INSTANCES = 32
_MOST_VALUES = 2_000_000  # each may take some 100 bytes
_TYPES = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}  # of JSON, by kind of dtype


class TensorSpec(NamedTuple):
    """An input or output of a signature."""

    dtype: np.dtype  # object for strings
    shape: tuple[int | None, ...] | None  # a size, or the whole, is None where any goes


class Signature(NamedTuple):
    """What can be asked of a model."""

    name: str  # as in `signature_name`
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
        RequestError: 400; 413 for more than two million values; 501 for an input of a dtype that
            JSON has no values for.
    """
    document = _load(body)
    name = document.get("signature_name") or "serving_default"
    if type(name) is not str or name not in signatures:
        known = ", ".join(sorted(signatures))
        raise _bad(f"signature_name is {reprlib.repr(name)}: this model has {known}")
    signature, is_row = signatures[name], "instances" in document
    if is_row == ("inputs" in document):
        raise _bad("give instances, which are rows, or inputs, which are columns")
    names = list(signature.inputs)
    if is_row:
        rows = document["instances"]
        if type(rows) is not list or not 1 <= len(rows) <= MOST_INSTANCES:
            raise _bad(f"instances has to be a list of 1 to {MOST_INSTANCES}")
        rows = [_named(row, names, f"instances[{k}]") for k, row in enumerate(rows)]
        columns = {name: [row[name] for row in rows] for name in names}
    else:
        columns = _named(document["inputs"], names, "inputs")
    inputs = {name: _to_array(name, columns[name], spec) for name, spec in signature.inputs.items()}
    return signature, inputs, is_row


def format_predict(outputs: Mapping[str, np.ndarray], is_row: bool, signature: Signature) -> bytes:
    """Writes the body of an answer to a predict request.

    Args:
        outputs: By name; strings as arrays of bytes objects.
        is_row: Whether the request was in rows.
        signature: What was asked.

    Returns:
        JSON with `predictions` (rows) or `outputs` (columns). A single output has no name; strings
        of a name that ends in `_bytes` become `{"b64": …}`.

    Raises:
        RequestError: 400, rows were asked for but the outputs are no rows, or JSON has no form
            for an output.
    """
    sizes = {array.shape[:1] for array in outputs.values()}
    if is_row and (len(sizes) != 1 or () in sizes):
        raise _bad("the outputs are no rows: ask with inputs in place of instances")
    content = {name: _writable(name, outputs[name]) for name in signature.outputs}
    if len(content) == 1:
        (content,) = content.values()
    elif is_row:
        rows = zip(*content.values(), strict=True)
        content = [dict(zip(content, values, strict=True)) for values in rows]
    answer = {"predictions" if is_row else "outputs": content}
    if not all(np.isfinite(a).all() for a in outputs.values() if a.dtype.kind == "f"):
        return json.dumps(answer, default=_as_lists).encode()  # NaN, Infinity
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _bad(message: str) -> RequestError:
    return RequestError(400, message)


def _load(body: bytes) -> dict:
    """The JSON object of a request, UTF-8."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        words = "values in one request: send images as PNG or JPEG bytes"
        raise RequestError(413, f"more than {_MOST_VALUES} {words}")
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=_finite)
    except (ValueError, RecursionError) as error:
        words = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise _bad(f"the body is no JSON: {words}") from None
    if type(document) is not dict:
        raise _bad("the body is no JSON object")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is beyond float64")
    return value


def _named(value: Any, names: list[str], place: str) -> dict[str, Any]:
    """Values by the inputs' names; a single input needs none."""
    if type(value) is not dict or _is_base64(value):
        value = {names[0]: value} if len(names) == 1 else {}
    if value.keys() != set(names):
        raise _bad(f"{place} has to be an object with {', '.join(names)}")
    return value


def _is_base64(value: Any) -> bool:
    """Whether `value` is `{"b64": <string>}`."""
    return type(value) is dict and list(value) == ["b64"] and type(value["b64"]) is str


def _to_array(name: str, value: Any, spec: TensorSpec) -> np.ndarray:
    """Turns nested lists of equal lengths, or a single value, into an array of the spec."""
    found = np.array(value, object)  # lists of unequal lengths stay lists in it
    leaves, kind = found.ravel().tolist(), spec.dtype.kind
    types = set(map(type, leaves))
    if list in types:
        raise _bad(f"input {name}: lists of unequal lengths, mixed with values, or nested too deep")
    expected = found.shape if spec.shape is None else spec.shape
    fits = [of in (None, size) for size, of in zip(found.shape, expected, strict=False)]
    if found.ndim != len(expected) or not all(fits):
        wanted = str([size or "any" for size in expected]).replace("'", "")
        raise _bad(f"input {name}: its shape is {list(found.shape)}, but has to be {wanted}")
    if kind == "O":
        found.flat = [_bytes(name, leaf) for leaf in leaves]
        return found
    if kind not in _TYPES:
        raise RequestError(501, f"input {name}: JSON has no values of dtype {spec.dtype}")
    if wrong := types - _TYPES[kind]:
        leaf = next(leaf for leaf in leaves if type(leaf) in wrong)
        raise _bad(f"input {name}: {reprlib.repr(leaf)} is no {spec.dtype}")
    try:
        with np.errstate(over="raise"):
            wide = np.array(leaves, np.float64 if kind == "f" else spec.dtype)
            return wide.astype(spec.dtype).reshape(found.shape)
    except (OverflowError, FloatingPointError):
        raise _bad(f"input {name}: a number is beyond {spec.dtype}") from None


def _bytes(name: str, leaf: Any) -> bytes:
    """A string as UTF-8, or the bytes of `{"b64": …}`."""
    try:
        if type(leaf) is str:
            return leaf.encode()
        if _is_base64(leaf):
            text = "".join(leaf["b64"].split()).rstrip("=")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise _bad(f"input {name}: {reprlib.repr(leaf)} cannot be decoded") from None
    shown = reprlib.repr(leaf)
    raise _bad(f'input {name}: {shown} is no string, and no object {{"b64": string}}')


def _writable(name: str, array: np.ndarray) -> Any:
    """What orjson can write: a contiguous array, a NumPy scalar, or lists of strings."""
    if array.dtype.kind not in "biufO":
        raise _bad(f"output {name}: JSON has no values of dtype {array.dtype}")
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
