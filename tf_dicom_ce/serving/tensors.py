"""JSON to tensors and back, in the REST dialect of TensorFlow Serving.

Source: tensorflow_serving/g3doc/api_rest.md and tensorflow_serving/util/json_tensor.cc, whose
words the errors use; values that they quote are cut short. Requests are read with the standard
library, which knows `NaN` and `Infinity`; answers are written with orjson, which writes 300,000
float32 in milliseconds, each with the fewest digits that give the same float32 again.
"""

import base64
import itertools
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from tf_dicom_ce.errors import RequestError

#: The most instances in a request: a small request must not ask for gigabytes of answers.
MOST_INSTANCES = 32
_DEFAULT_SIGNATURE = "serving_default"
_MOST_VALUES = 2_000_000  # each may take some 100 bytes
_MOST_QUOTED = 200  # characters
_DEEPEST = 32  # dimensions; NumPy has room for 64
_PLAIN = (
    "{} is a plain {}, but expecting {} as multiple input tensors required as per tensorinfo_map"
)
_TF_NAMES = {"float32": "float", "float64": "double", "object": "string"}
_JSON_NAMES = {
    **{dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"},
    type(None): "Null",
}


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
        RequestError: 400, or 413 for more than two million values.
    """
    try:
        return _parse(body, signatures)
    except RecursionError:
        raise _bad("JSON Parse error: nested too deeply") from None


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
        rows = zip(*arrays.values(), strict=True)
        content = [dict(zip(arrays, values, strict=True)) for values in rows]
    else:
        content = arrays
    answer = {"predictions" if row else "outputs": content}
    if not all(np.isfinite(a).all() for a in outputs.values() if a.dtype.kind == "f"):
        return json.dumps(answer, default=_as_lists).encode()  # NaN, Infinity
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _bad(message: str) -> RequestError:
    return RequestError(400, message)


def _misfit(value: Any, words: str) -> RequestError:
    """The error that begins with the value, cut short."""
    return _bad(f"JSON Value: {_quoted(value)} {words}")


def _parse(body, signatures):
    document = _load(body)
    name = document.get("signature_name", "")
    if type(name) is not str:
        words = "not formatted correctly. 'signature_name' key must be a string value."
        raise _misfit(document, words)
    signature = signatures.get(name or _DEFAULT_SIGNATURE)
    if signature is None:
        name = (name or _DEFAULT_SIGNATURE)[:200]
        raise _bad(f'Serving signature name: "{name}" not found in signature def')
    row = "instances" in document
    if row and "inputs" in document:
        words = (
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
        raise _misfit(document, words)
    if row:
        inputs = _from_rows(document, signature)
    elif "inputs" in document:
        inputs = _from_columns(document["inputs"], signature)
    else:
        raise _bad("Missing 'inputs' or 'instances' key")
    for name, array in inputs.items():
        _require_shape(name, array.shape, signature.inputs[name].shape)
    return signature, inputs, row


def _from_rows(document: dict, signature: Signature) -> dict[str, np.ndarray]:
    rows, names = document["instances"], sorted(signature.inputs)
    if type(rows) is not list:
        raise _misfit(document, "Excepting 'instances' to be an list/array")
    if not rows:
        raise _misfit(document, "No values in 'instances' array")
    if len(rows) > MOST_INSTANCES:
        raise _bad(f"{len(rows)} instances: at most {MOST_INSTANCES} in a request")
    if type(rows[0]) is not dict and len(names) > 1:
        raise _bad(_PLAIN.format("instances", "list", "list of objects"))
    objects = _is_object(rows[0])
    columns = {name: [] for name in names}
    for k, row in enumerate(rows):
        if _is_object(row) != objects:
            expected = "object but got list" if objects else "value/list but got object"
            raise _bad(f"Expecting {expected} at item {k} of input list")
        failed = f"Failed to process element: {k}"
        for name, value in row.items() if objects else [(names[0], row)]:
            try:
                _add(value, name, signature, columns)
            except RequestError as error:
                key = f" key: {name[:200]}" if objects else ""
                words = f"of 'instances' list. Error: INVALID_ARGUMENT: {error.message}"
                raise RequestError(error.status, f"{failed}{key} {words}") from None
        if objects and set(row) != set(names):
            words = f"JSON object: {_quoted(row)} keys must be equal to: {','.join(names)}"
            raise _bad(f"{failed} of 'instances' list. {words}")
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _add(value: Any, name: str, signature: Signature, columns: dict[str, list]) -> None:
    if name not in signature.inputs:
        raise _bad(f"JSON object: does not have named input: {name[:200]}")
    array = _to_array(value, signature.inputs[name].dtype)
    first = columns[name][0] if columns[name] else array
    if first.size != array.size:
        raise _bad(f"Expecting tensor size: {first.size} but got: {array.size}")
    if first.shape != array.shape:
        raise _bad(f"Expecting shape {_bracketed(first.shape)} but got: {_bracketed(array.shape)}")
    columns[name].append(array)


def _from_columns(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    specs = signature.inputs
    if not _is_object(value):
        if len(specs) > 1:
            raise _bad(_PLAIN.format("inputs", "value/list", "an object"))
        value = dict.fromkeys(specs, value)
    for name in specs:
        if name not in value:
            raise _bad(f"Missing named input: {name} in 'inputs' object.")
    return {name: _to_array(value[name], spec.dtype) for name, spec in specs.items()}


def _is_object(value: Any) -> bool:
    return type(value) is dict and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    """Whether `value` is `{"b64": <string>}`."""
    return type(value) is dict and list(value) == ["b64"] and type(value["b64"]) is str


def _require_shape(name: str, shape: tuple, expected: tuple | None) -> None:
    sizes = [-1 if size is None else size for size in expected or ()]
    fits = len(shape) == len(sizes) and all(b in (-1, a) for a, b in zip(shape, sizes, strict=True))
    if expected is not None and not fits:
        raise _bad(f"input {name}: shape {_bracketed(shape)} does not fit {_bracketed(sizes)}")


def _bracketed(shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _require_rows(outputs: Mapping[str, np.ndarray]) -> None:
    batch = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise _bad(f"Tensor name: {name} has no shape information ")
        if batch not in (None, len(array)):
            words = f"has inconsistent batch size: {len(array)} expecting: {batch}"
            raise _bad(f"Tensor name: {name} {words}")
        batch = len(array)


def _writable(name: str, array: np.ndarray) -> Any:
    """What orjson can write: a contiguous array, a NumPy scalar, or lists of strings."""
    if array.dtype.kind not in "biufO":
        raise _bad(f"Failed to write JSON value for tensor type: {array.dtype.name}")
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


def _load(body: bytes) -> dict:
    """Parses the JSON object of a request, UTF-8; `NaN`, `Infinity` and `-Infinity` are numbers."""
    if not body:
        raise _bad("JSON Parse error: The document is empty")
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        words = "values in one request: send images as PNG or JPEG bytes"
        raise RequestError(413, f"more than {_MOST_VALUES} {words}")
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _bad(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        words = f"Invalid encoding in string. at offset: {error.start}"
        raise _bad(f"JSON Parse error: {words}") from None
    except ValueError:  # of _finite; or too many digits for int
        raise _bad("JSON Parse error: Number too big to be stored in double.") from None
    if type(document) is not dict:
        raise _misfit(document, "Is not object")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError
    return value


def _to_array(value: Any, dtype: np.dtype) -> np.ndarray:
    """Turns nested lists of equal lengths, or a single value, into an array.

    Strings, of dtype object, are bytes (text as UTF-8, `{"b64": …}` decoded). A dtype that
    TensorFlow Serving does not read from JSON either is answered 501.
    """
    shape, leaves = _shape(value), [value]
    for level, size in enumerate(shape):
        for item in leaves:
            if type(item) is not list:
                found = f"found at incorrect level: {level + 1} in the JSON DOM."
                raise _misfit(item, f"{found} Expected at level: {len(shape)}")
            if len(item) != size:
                found = f"unexpected size: {len(item)} at level: {level} expected size: {size}"
                raise _bad(f"Encountered list at {found}")
        leaves = list(itertools.chain.from_iterable(leaves))
    if any(type(leaf) is list for leaf in leaves):
        found = f"unexpected level: {len(shape)} expected < {len(shape)}"
        raise _bad(f"Encountered list at {found}")
    return _convert(leaves, dtype).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that the first of the first of the first … element suggests."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if len(shape) > _DEEPEST:
            raise _bad(f"Encountered lists nested more than {_DEEPEST} deep")
        value = value[0] if value else None
    return tuple(shape)


def _quoted(value: Any) -> str:
    """The beginning of `value` as JSON, for a message."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        text += piece[: _MOST_QUOTED + 1]
        if len(text) > _MOST_QUOTED:
            return text[:_MOST_QUOTED] + "…"
    return text


def _convert(leaves: list, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "O":
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(leaf) for leaf in leaves]
        return array
    if dtype in (np.float32, np.float64):
        return _floats(leaves, dtype)
    if dtype.kind not in "iub":
        raise RequestError(501, f"Conversion of JSON Value to type: {_tf_name(dtype)}")
    limits = None if dtype.kind == "b" else np.iinfo(dtype)
    for leaf in leaves:
        fits = type(leaf) is (int if limits else bool)
        if not fits or (limits and not limits.min <= leaf <= limits.max):
            raise _wrong_type(leaf, dtype)
    return np.array(leaves, dtype)


def _wrong_type(leaf: Any, dtype: np.dtype) -> RequestError:
    kind = str(leaf) if type(leaf) is bool else _JSON_NAMES[type(leaf)]
    return _misfit(leaf, f"Type: {kind} is not of expected type: {_tf_name(dtype)}")


def _floats(leaves: list, dtype: np.dtype) -> np.ndarray:
    if not set(map(type, leaves)) <= {int, float}:
        raise _wrong_type(next(k for k in leaves if type(k) not in (int, float)), dtype)
    limits = np.finfo(dtype)
    whole = 2 ** (limits.nmant + 1) - 1  # the largest whole number that is surely exact
    try:
        array = np.array(leaves, np.float64)
        # An integer of more than 64 bits counts as a decimal number.
        for k in np.flatnonzero(np.isfinite(array) & (np.abs(array) > whole)):
            leaf = leaves[k]
            exact = type(leaf) is int and -(2**63) <= leaf < 2**64
            if exact or abs(array[k]) > limits.max:
                raise OverflowError(leaf)
    except OverflowError as error:
        leaf = error.args[0] if type(error.args[0]) is not str else max(leaves, key=abs)
        words = f"{_quoted(leaf)} to {_tf_name(dtype)} without loss of precision."
        raise _bad(f"Cannot convert JSON value: {words}") from None
    return array.astype(dtype)


def _bytes(leaf: Any) -> bytes:
    if type(leaf) is str:
        try:
            return leaf.encode()
        except UnicodeEncodeError:
            raise _bad("JSON Parse error: The surrogate pair in string is invalid.") from None
    if not _is_base64(leaf):
        if type(leaf) is dict:
            raise _misfit(leaf, "not formatted correctly for base64 data")
        raise _wrong_type(leaf, np.dtype(object))
    text = "".join(leaf["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise _bad("Unable to base64 decode") from None


def _tf_name(dtype: np.dtype) -> str:
    return _TF_NAMES.get(dtype.name, dtype.name)
