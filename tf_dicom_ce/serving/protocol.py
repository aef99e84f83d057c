"""What a predict request and its answer hold: JSON to arrays and back.

Their forms are those of TensorFlow Serving's REST API (tensorflow_serving/g3doc/api_rest.md), the
words of errors are our own. Requests are read with the standard library, which knows `NaN` and
`Infinity`; answers are written with orjson, which writes 300,000 float32 in milliseconds, each with
the fewest digits that give the same float32 again.
"""

import base64
import itertools
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
_DEFAULT_SIGNATURE = "serving_default"
_MOST_VALUES = 2_000_000  # each may take some 100 bytes
_DEEPEST = 32  # dimensions; NumPy has room for 64
_TYPES = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}  # by the kind of dtype


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
    name = document.get("signature_name") or _DEFAULT_SIGNATURE
    if type(name) is not str or name not in signatures:
        known = ", ".join(sorted(signatures))
        raise _bad(f"signature_name is {_shown(name)}: this model has {known}")
    signature, is_row = signatures[name], "instances" in document
    if is_row == ("inputs" in document):
        raise _bad("give instances, which are rows, or inputs, which are columns")
    if is_row:
        columns = _from_rows(document["instances"], list(signature.inputs))
    else:
        columns = _named(document["inputs"], list(signature.inputs), "inputs")
    inputs = {name: _to_array(name, columns[name], spec) for name, spec in signature.inputs.items()}
    return signature, inputs, is_row


def format_predict(outputs: Mapping[str, np.ndarray], is_row: bool, signature: Signature) -> bytes:
    """Writes the body of an answer to a predict request.

    Args:
        outputs: By name; strings as arrays of bytes objects.
        is_row: Whether the request was in rows.
        signature: What was asked.

    Returns:
        JSON with `predictions` (rows) or `outputs` (columns). The name is left out if there is
        but one output; strings of a name that ends in `_bytes` become `{"b64": …}`.

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


def _shown(value: Any) -> str:
    return reprlib.repr(value)


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


def _from_rows(rows: Any, names: list[str]) -> dict[str, list]:
    if type(rows) is not list or not 1 <= len(rows) <= MOST_INSTANCES:
        raise _bad(f"instances has to be a list of 1 to {MOST_INSTANCES}")
    named = [_named(row, names, f"instances[{k}]") for k, row in enumerate(rows)]
    return {name: [row[name] for row in named] for name in names}


def _named(value: Any, names: list[str], place: str) -> dict[str, Any]:
    """Values by the inputs' names; one that is alone needs none."""
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
    shape, leaves = [], [value]
    while leaves and type(leaves[0]) is list:
        shape.append(len(leaves[0]))
        if len(shape) > _DEEPEST:
            raise _bad(f"input {name}: lists are nested more than {_DEEPEST} deep")
        if any(type(item) is not list or len(item) != shape[-1] for item in leaves):
            raise _bad(f"input {name}: lists at depth {len(shape)} are not all of one length")
        leaves = list(itertools.chain.from_iterable(leaves))
    if list in set(map(type, leaves)):
        raise _bad(f"input {name}: lists and values are mixed at depth {len(shape)}")
    expected = shape if spec.shape is None else spec.shape
    fits = [of in (None, size) for size, of in zip(shape, expected, strict=False)]
    if len(shape) != len(expected) or not all(fits):
        wanted = str([size or "any" for size in expected]).replace("'", "")
        raise _bad(f"input {name}: its shape is {shape}, but has to be {wanted}")
    if spec.dtype.kind == "O":
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(name, leaf) for leaf in leaves]
    else:
        array = _numbers(name, leaves, spec.dtype)
    return array.reshape(shape)


def _numbers(name: str, leaves: list, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in _TYPES:
        raise RequestError(501, f"input {name}: JSON has no values of dtype {dtype}")
    if wrong := set(map(type, leaves)) - _TYPES[dtype.kind]:
        leaf = next(leaf for leaf in leaves if type(leaf) in wrong)
        raise _bad(f"input {name}: {_shown(leaf)} is no {dtype}")
    try:
        array = np.array(leaves, np.float64 if dtype.kind == "f" else dtype)
        with np.errstate(over="ignore"):
            found = array.astype(dtype)
        if dtype.kind == "f" and (np.isinf(found) & np.isfinite(array)).any():
            raise OverflowError
    except OverflowError:
        raise _bad(f"input {name}: a number is beyond {dtype}") from None
    return found


def _bytes(name: str, leaf: Any) -> bytes:
    """A string as UTF-8, or the bytes of `{"b64": …}`."""
    try:
        if type(leaf) is str:
            return leaf.encode()
        if _is_base64(leaf):
            text = "".join(leaf["b64"].split()).rstrip("=")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise _bad(f"input {name}: {_shown(leaf)} cannot be decoded") from None
    raise _bad(f'input {name}: {_shown(leaf)} is no string, and no object {{"b64": string}}')


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
