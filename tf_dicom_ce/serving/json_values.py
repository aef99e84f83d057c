"""JSON text to values, and values to dense arrays, by TensorFlow Serving's rules and words.

Source: tensorflow_serving/util/json_tensor.cc. Values that an error quotes are cut short.
"""

import base64
import itertools
import json
from typing import Any

import numpy as np

from tf_dicom_ce.serving.errors import RequestError

_MOST_VALUES = 2_000_000  # each may take some 100 bytes
_MOST_QUOTED = 200  # characters
_DEEPEST = 32  # dimensions; NumPy has room for 64
_TF_NAMES = {"float32": "float", "float64": "double", "object": "string"}
_JSON_NAMES = {
    **{dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"},
    type(None): "Null",
}


def load(body: bytes) -> dict:
    """Parses the JSON object of a request; `NaN`, `Infinity` and `-Infinity` are numbers.

    Args:
        body: UTF-8.

    Raises:
        RequestError: No JSON, no object (400), or more than two million values (413).
        RecursionError: Nested too deeply.
    """
    if not body:
        raise RequestError(400, "JSON Parse error: The document is empty")
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise RequestError(
            413, f"more than {_MOST_VALUES} values in one request: send images as PNG or JPEG bytes"
        )
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=_finite)
    except json.JSONDecodeError as error:
        message = f"JSON Parse error: {error.msg} at offset: {error.pos}"
        raise RequestError(400, message) from None
    except UnicodeDecodeError as error:
        message = f"JSON Parse error: Invalid encoding in string. at offset: {error.start}"
        raise RequestError(400, message) from None
    except ValueError:  # of _finite; or too many digits for int
        message = "JSON Parse error: Number too big to be stored in double."
        raise RequestError(400, message) from None
    if type(document) is not dict:
        raise RequestError(400, f"JSON Value: {quoted(document)} Is not object")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), -float("inf")):
        raise ValueError
    return value


def to_array(value: Any, dtype: np.dtype) -> np.ndarray:
    """Turns nested lists of equal lengths, or a single value, into an array.

    Args:
        value: What `json.loads` gave.
        dtype: A float32 or float64, a whole number, bool, or object for strings.

    Returns:
        Array of `dtype`; strings are bytes (text as UTF-8, `{"b64": …}` decoded).

    Raises:
        RequestError: Ragged or too deep, or a value of another type or out of range (400); a
            dtype that TensorFlow Serving does not read from JSON either (501).
    """
    shape = _shape(value)
    leaves = [value]
    for level, size in enumerate(shape):
        for item in leaves:
            if type(item) is not list:
                raise RequestError(
                    400,
                    f"JSON Value: {quoted(item)} found at incorrect level: {level + 1} "
                    f"in the JSON DOM. Expected at level: {len(shape)}",
                )
            if len(item) != size:
                raise RequestError(
                    400,
                    f"Encountered list at unexpected size: {len(item)} at level: {level} "
                    f"expected size: {size}",
                )
        leaves = list(itertools.chain.from_iterable(leaves))
    if any(type(leaf) is list for leaf in leaves):
        raise RequestError(
            400, f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"
        )
    return _convert(leaves, dtype).reshape(shape)


def is_base64(value: Any) -> bool:
    """Whether `value` is `{"b64": <string>}`."""
    return type(value) is dict and list(value) == ["b64"] and type(value["b64"]) is str


def quoted(value: Any) -> str:
    """The beginning of `value` as JSON, for a message."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        text += piece[: _MOST_QUOTED + 1]
        if len(text) > _MOST_QUOTED:
            return text[:_MOST_QUOTED] + "…"
    return text


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that the first of the first of the first … element suggests."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if len(shape) > _DEEPEST:
            raise RequestError(400, f"Encountered lists nested more than {_DEEPEST} deep")
        value = value[0] if value else None
    return tuple(shape)


def _convert(leaves: list, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "O":
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(leaf) for leaf in leaves]
        return array
    if dtype in (np.float32, np.float64):
        return _floats(leaves, dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        _require(leaves, dtype, lambda leaf: type(leaf) is int and limits.min <= leaf <= limits.max)
    elif dtype.kind == "b":
        _require(leaves, dtype, lambda leaf: type(leaf) is bool)
    else:
        raise RequestError(501, f"Conversion of JSON Value to type: {_tf_name(dtype)}")
    return np.array(leaves, dtype)


def _require(leaves: list, dtype: np.dtype, fits) -> None:
    for leaf in leaves:
        if not fits(leaf):
            kind = str(leaf) if type(leaf) is bool else _JSON_NAMES[type(leaf)]
            raise RequestError(
                400,
                f"JSON Value: {quoted(leaf)} Type: {kind} "
                f"is not of expected type: {_tf_name(dtype)}",
            )


def _floats(leaves: list, dtype: np.dtype) -> np.ndarray:
    if not set(map(type, leaves)) <= {int, float}:
        _require(leaves, dtype, lambda leaf: type(leaf) in (int, float))
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
        raise RequestError(
            400,
            f"Cannot convert JSON value: {quoted(leaf)} to {_tf_name(dtype)} "
            "without loss of precision.",
        ) from None
    return array.astype(dtype)


def _bytes(leaf: Any) -> bytes:
    if type(leaf) is str:
        try:
            return leaf.encode()
        except UnicodeEncodeError:
            raise RequestError(
                400, "JSON Parse error: The surrogate pair in string is invalid."
            ) from None
    if not is_base64(leaf):
        if type(leaf) is dict:
            raise RequestError(
                400, f"JSON Value: {quoted(leaf)} not formatted correctly for base64 data"
            )
        _require([leaf], np.dtype(object), lambda leaf: False)
    text = "".join(leaf["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise RequestError(400, "Unable to base64 decode") from None


def _tf_name(dtype: np.dtype) -> str:
    return _TF_NAMES.get(dtype.name, dtype.name)
