"""Bodies in TensorFlow Serving's forms: every one its page shows, and every error in our words."""

import base64
import json
import math

import numpy as np
import pytest

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.protocol import Signature, TensorSpec, format_predict, parse_predict

FLOAT, TEXT = np.dtype(np.float32), np.dtype(object)


def signature(name="serving_default", outputs=(), **inputs):
    return Signature(
        name,
        {k: TensorSpec(np.dtype(d), s) for k, (d, s) in inputs.items()},
        {k: TensorSpec(FLOAT, None) for k in outputs},
    )


THREE = signature(
    tag=(TEXT, (None,)), signal=(FLOAT, (None, 5)), sensor=(np.int32, (None, None, 2))
)
IMAGE = signature(image=(FLOAT, (None, None, None, 1)))
BYTES = signature(image_bytes=(TEXT, (None,)))
ANY = {k: signature(x=(k, None)) for k in ("float32", "float64", "int32", "uint8", "bool", "O")}


def parse(content, *signatures):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_predict(body, {s.name: s for s in signatures})


def refused(content, *signatures):
    with pytest.raises(RequestError) as caught:
        parse(content, *signatures)
    return caught.value.status, caught.value.message


ROWS = [
    {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
    {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


@pytest.mark.parametrize(
    ("content", "is_row"), [({"instances": ROWS}, True), ({"inputs": COLUMNS}, False)]
)
def test_the_three_named_inputs_of_the_documentation(content, is_row):
    found, inputs, row = parse(content, THREE)
    assert found is THREE
    assert row is is_row
    assert inputs["tag"].tolist() == [b"foo", b"bar"]
    assert inputs["signal"].tolist() == [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]]
    assert inputs["sensor"].tolist() == [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]
    assert [inputs[k].dtype for k in ("tag", "signal", "sensor")] == ["O", "float32", "int32"]


@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize(
    ("value", "shape"),
    [(["foo", "bar"], (2,)), ([[["a", "b"]], [["c", "d"]]], (2, 1, 2)), ([[], []], (2, 0))],
)
def test_a_single_input_needs_no_name(key, value, shape):
    _, inputs, _ = parse({key: value}, ANY["O"])
    assert inputs["x"].shape == shape
    np.testing.assert_array_equal(inputs["x"], np.char.encode(np.array(value, str)))


def test_a_scalar_and_a_base64_object_as_inputs():
    assert parse({"inputs": 1.5}, ANY["float32"])[1]["x"].shape == ()
    value = parse({"inputs": {"b64": "/+8="}}, ANY["O"])[1]["x"]
    assert value.shape == ()
    assert value[()] == b"\xff\xef"


@pytest.mark.parametrize("text", ["/+8=", "/+8", " /+\n8= "])
@pytest.mark.parametrize("named", [False, True])
def test_base64_bytes(text, named):
    item = {"b64": text}
    row = {"image_bytes": item} if named else item
    assert parse({"instances": [row, row]}, BYTES)[1]["image_bytes"].tolist() == [b"\xff\xef"] * 2


def test_text_is_utf_8_and_a_byte_order_mark_is_skipped():
    body = '\ufeff{"instances": ["Grüße", "\\u00fc"]}'.encode()
    assert parse(body, BYTES)[1]["image_bytes"].tolist() == ["Grüße".encode(), "ü".encode()]


def test_the_signature_by_name():
    other = signature("other", x=(FLOAT, None))
    assert parse({"signature_name": "other", "inputs": 1}, BYTES, other)[0] is other
    assert parse({"signature_name": "", "inputs": ["a"]}, BYTES, other)[0] is BYTES


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers(dtype):
    body = b'{"instances": [NaN, Infinity, -Infinity, 1e-3, -2, 16777217, 1e30, 0.1, -9e-999]}'
    array = parse(body, ANY[dtype])[1]["x"]
    assert array.dtype == dtype
    expected = [math.nan, math.inf, -math.inf, 1e-3, -2, 2**24 + 1, 1e30, 0.1, 0]
    np.testing.assert_array_equal(array, np.array(expected, dtype))


def test_booleans():
    array = parse({"instances": [[True, False]]}, ANY["bool"])[1]["x"]
    assert array.dtype == bool
    assert array.tolist() == [[True, False]]


B64 = {"b64": "AAAA"}
X = "input x: "
UNEQUAL = "lists of unequal lengths, mixed with values, or nested too deep"


@pytest.mark.parametrize(
    ("signature", "content", "message"),
    [
        # the document
        (BYTES, b"", "the body is no JSON: Expecting value: line 1 column 1 (char 0)"),
        (
            BYTES,
            b'{"instances": [1}',
            "the body is no JSON: Expecting ',' delimiter: line 1 column 17 (char 16)",
        ),
        (
            BYTES,
            b"\xff{}",
            "the body is no JSON: 'utf-8' codec can't decode byte 0xff in position 0: "
            "invalid start byte",
        ),
        (BYTES, b'{"inputs": 1e400}', "the body is no JSON: a number is beyond float64"),
        (BYTES, [1, 2], "the body is no JSON object"),
        (BYTES, {}, "give instances, which are rows, or inputs, which are columns"),
        (
            BYTES,
            {"inputs": 1, "instances": 1},
            "give instances, which are rows, or inputs, which are columns",
        ),
        (BYTES, {"signature_name": 1}, "signature_name is 1: this model has serving_default"),
        (BYTES, {"signature_name": [1]}, "signature_name is [1]: this model has serving_default"),
        (
            BYTES,
            {"signature_name": "no"},
            "signature_name is 'no': this model has serving_default",
        ),
        # rows
        (BYTES, {"instances": 1}, "instances has to be a list of 1 to 32"),
        (BYTES, {"instances": []}, "instances has to be a list of 1 to 32"),
        (BYTES, {"instances": ["a"] * 33}, "instances has to be a list of 1 to 32"),
        (THREE, {"instances": [1]}, "instances[0] has to be an object with tag, signal, sensor"),
        (
            THREE,
            {"instances": [ROWS[0], 1]},
            "instances[1] has to be an object with tag, signal, sensor",
        ),
        (
            THREE,
            {"instances": [{"tag": "a"}]},
            "instances[0] has to be an object with tag, signal, sensor",
        ),
        (
            BYTES,
            {"instances": [{"image_bytes": B64, "more": 1}]},
            "instances[0] has to be an object with image_bytes",
        ),
        (
            ANY["float32"],
            {"instances": [[1, 2], [1]]},
            X + UNEQUAL,
        ),
        # columns
        (THREE, {"inputs": [1]}, "inputs has to be an object with tag, signal, sensor"),
        (THREE, {"inputs": {"tag": ["a"]}}, "inputs has to be an object with tag, signal, sensor"),
        # ragged, wrong shape
        (
            ANY["float32"],
            {"inputs": [[1], 2]},
            X + UNEQUAL,
        ),
        (ANY["float32"], {"inputs": [1, [2]]}, X + UNEQUAL),
        (
            IMAGE,
            {"inputs": [[1, 2]]},
            "input image: its shape is [1, 2], but has to be [any, any, any, 1]",
        ),
        (
            IMAGE,
            {"instances": [[[[1, 2]]]]},
            "input image: its shape is [1, 1, 1, 2], but has to be [any, any, any, 1]",
        ),
        # wrong type
        (ANY["float32"], {"inputs": ["a"]}, X + "'a' is no float32"),
        (ANY["float32"], {"inputs": [1, True]}, X + "True is no float32"),
        (ANY["float64"], {"inputs": None}, X + "None is no float64"),
        (ANY["float32"], {"inputs": [{"a": 1}]}, X + "{'a': 1} is no float32"),
        (ANY["int32"], {"inputs": [1.5]}, X + "1.5 is no int32"),
        (ANY["bool"], {"inputs": [0]}, X + "0 is no bool"),
        (ANY["O"], {"inputs": [0]}, X + '0 is no string, and no object {"b64": string}'),
        (
            ANY["O"],
            {"inputs": [{"b64": 1}]},
            X + "{'b64': 1} is no string, and no object {\"b64\": string}",
        ),
        (ANY["O"], {"inputs": [{"b64": "?"}]}, X + "{'b64': '?'} cannot be decoded"),
        (ANY["O"], {"inputs": [{"b64": "ü"}]}, X + "{'b64': 'ü'} cannot be decoded"),
        (ANY["O"], {"inputs": [{"b64": "A"}]}, X + "{'b64': 'A'} cannot be decoded"),
        (ANY["O"], b'{"inputs": ["\\ud800"]}', X + "'\\ud800' cannot be decoded"),
        # numbers that do not fit
        (ANY["int32"], {"inputs": [2**31]}, X + "a number is beyond int32"),
        (ANY["uint8"], {"inputs": [-1]}, X + "a number is beyond uint8"),
        (ANY["float32"], {"inputs": 1e39}, X + "a number is beyond float32"),
        (ANY["float64"], {"inputs": 10**400}, X + "a number is beyond float64"),
    ],
)
def test_errors(signature, content, message):
    assert refused(content, signature) == (400, message)


def test_a_whole_number_of_more_than_64_bits_is_a_decimal():
    assert parse({"inputs": 10**30}, ANY["float32"])[1]["x"] == np.float32(1e30)


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"inputs":', b"}]")]
)
@pytest.mark.parametrize("depth", [40, 900, 5000, 100_000])
def test_deep_nesting(opening, closing, depth):
    unfinished = b'{"inputs":' + opening * depth
    for body in (unfinished, unfinished + b"1" + closing * depth + b"}"):
        status, message = refused(body, BYTES)
        assert status == 400
        assert len(message) < 400


def test_more_values_than_fit_in_memory():
    status, message = refused(b'{"inputs": [' + b"{}," * 2_000_000 + b"1]}", BYTES)
    assert status == 413
    assert "PNG" in message


def test_an_error_quotes_little():
    assert len(refused({"inputs": "x" * 10_000}, ANY["float32"])[1]) < 300
    assert len(refused({"instances": [{"n" * 10_000: 1}]}, ANY["float32"])[1]) < 600


def test_a_type_that_json_cannot_fill():
    assert refused({"inputs": [1.0]}, signature(x=(np.complex64, None))) == (
        501,
        "input x: JSON has no values of dtype complex64",
    )


def answer(row, **outputs):
    arrays = {name: np.array(value) for name, value in outputs.items()}
    return format_predict(arrays, row, signature(outputs=outputs))


def test_one_output_has_no_name():
    one = np.array([3.5, 4.0, 5.5], np.float32)
    assert answer(True, y=one) == b'{"predictions":[3.5,4.0,5.5]}'
    assert answer(False, y=one) == b'{"outputs":[3.5,4.0,5.5]}'
    assert answer(False, y=np.float32(2)) == b'{"outputs":2.0}'


def test_several_outputs():
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    sure, label = np.array([True, False]), np.array([-1, 2**40])
    assert json.loads(answer(True, mask=mask, sure=sure, label=label)) == {
        "predictions": [
            {"mask": [0, 1], "sure": True, "label": -1},
            {"mask": [2, 255], "sure": False, "label": 2**40},
        ]
    }
    assert json.loads(answer(False, mask=mask, sure=sure)) == {
        "outputs": {"mask": [[0, 1], [2, 255]], "sure": [True, False]}
    }


def test_floats_are_written_as_what_they_are():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 5000, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    written = json.loads(answer(True, y=values))["predictions"]
    np.testing.assert_array_equal(np.array(written, np.float32), values)
    assert answer(True, y=np.array([0.2], np.float32)) == b'{"predictions":[0.2]}'
    assert answer(True, y=np.array([1 / 3])) == b'{"predictions":[0.3333333333333333]}'


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_tokens(dtype):
    values = np.array([[math.nan, math.inf], [-math.inf, 0.2]], dtype)
    expected = "[[NaN, Infinity], [-Infinity, 0.2]]"
    assert answer(True, y=values).decode() == f'{{"predictions": {expected}}}'
    several = answer(True, y=values[0], z=np.array([1, 2], np.int32))
    assert several == b'{"predictions": [{"y": NaN, "z": 1}, {"y": Infinity, "z": 2}]}'


def test_strings_and_bytes():
    text = np.array([["a", "Grüße"]], str).astype(object)
    text = np.frompyfunc(str.encode, 1, 1)(text)
    assert json.loads(answer(True, label=text)) == {"predictions": [["a", "Grüße"]]}
    raw = np.array([b"\xff\xef", b""], object)
    assert json.loads(answer(True, crop_bytes=raw)) == {
        "predictions": [{"b64": base64.b64encode(b"\xff\xef").decode()}, {"b64": ""}]
    }
    assert json.loads(answer(False, crop=raw)) == {"outputs": ["\ufffd\ufffd", ""]}


@pytest.mark.parametrize(
    "outputs", [{"y": 1.0}, {"y": [1.0], "z": [1.0, 2.0]}, {"y": [1.0, 2.0], "z": 1.0}]
)
def test_outputs_that_are_no_rows(outputs):
    with pytest.raises(RequestError, match="no rows: ask with inputs") as caught:
        answer(True, **outputs)
    assert caught.value.status == 400


def test_an_output_that_json_has_no_form_for():
    with pytest.raises(RequestError, match="output y: JSON has no values of dtype complex128"):
        answer(False, y=np.array([1j]))
