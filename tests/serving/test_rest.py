"""TensorFlow Serving's REST API over real HTTP: its forms, with words of our own.

Source: tensorflow_serving/g3doc/api_rest.md, model_servers/*.cc, util/json_tensor.cc.
"""

import base64
import json
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request

import httpx
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.json_format import MessageToDict, Parse, ParseDict
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

JSON = "application/json"
MODELS = "/v1/models"
HALF = f"{MODELS}/half_plus_three"
MIXED = f"{MODELS}/mixed"
HEAD = f"{MODELS}/classification"
SAME = 1e-5  # difference of probabilities that is none


class HalfPlusThree(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def answer(self, x):
        return {"y": x / 2 + 3}


class Mixed(tf.Module):
    """The three inputs of the documentation; answers of three kinds."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="tag"),
            tf.TensorSpec([None, 5], tf.float32, name="signal"),
            tf.TensorSpec([None, 2, 2], tf.int32, name="sensor"),
        ]
    )
    def answer(self, tag, signal, sensor):
        return {
            "name": tf.strings.upper(tag),
            "name_bytes": tag,
            "mean": tf.reduce_mean(signal, 1),
            "doubled": 2 * sensor,
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, repository_folder, second_classifier):
    """half_plus_three/123, mixed/1, segmentation/1, classification/1 and /2."""
    root = tmp_path_factory.mktemp("served") / "models"
    shutil.copytree(repository_folder, root)
    shutil.copytree(second_classifier, root / "classification" / "2")
    for module, place in ((HalfPlusThree(), "half_plus_three/123"), (Mixed(), "mixed/1")):
        signatures = {"serving_default": module.answer}
        tf.saved_model.save(module, str(root / place), signatures=signatures)
    return root


@pytest.fixture(scope="module")
def half(folder, tmp_path_factory):
    """half_plus_three/123 alone."""
    root = tmp_path_factory.mktemp("half")
    shutil.copytree(folder / "half_plus_three", root / "half_plus_three")
    return root


@pytest.fixture(scope="module")
def server(folder, serve_models):
    with (
        serve_models(folder) as url,
        httpx.Client(base_url=url, timeout=60, verify=False) as client,
    ):
        yield client


def ask(server, url, content):
    body = content if isinstance(content, str | bytes) else json.dumps(content)
    response = server.post(f"{url}:predict", content=body)
    assert response.headers["content-type"] == JSON
    return response.status_code, response.json()


def error(response):
    assert response.headers["content-type"] == JSON
    assert list(response.json()) == ["error"]
    return response.status_code, response.json()["error"]


@pytest.mark.parametrize("place", ["", "/versions/123", "/versions/0123"])
@pytest.mark.parametrize(
    "name", [{}, {"signature_name": "serving_default"}, {"signature_name": ""}]
)
def test_predict(server, place, name):
    rows = {"instances": [1.0, 2.0, 5.0], **name}
    assert ask(server, HALF + place, rows) == (200, {"predictions": [3.5, 4.0, 5.5]})
    columns = {"inputs": [1.0, 2.0, 5.0], **name}
    assert ask(server, HALF + place, columns) == (200, {"outputs": [3.5, 4.0, 5.5]})
    named = {"instances": [{"x": 1.0}, {"x": 2}], **name}
    assert ask(server, HALF + place, named) == (200, {"predictions": [3.5, 4.0]})
    columns = {"inputs": {"x": [1e1]}, **name}
    assert ask(server, HALF + place, columns) == (200, {"outputs": [8.0]})


TAGS, SIGNALS = ["foo", "bär"], [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5.5]]
SENSORS = [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]
ANSWERS = {
    "name": ["FOO", "BäR"],
    "name_bytes": [{"b64": "Zm9v"}, {"b64": base64.b64encode("bär".encode()).decode()}],
    "mean": [3.0, 3.0999999046325684],
    "doubled": [[[2, 4], [6, 8]], [[8, 10], [12, 16]]],
}


def test_named_tensors_in_rows_and_columns(server):
    columns = {"tag": TAGS, "signal": SIGNALS, "sensor": SENSORS}
    status, answer = ask(server, MIXED, {"inputs": columns})
    assert (status, list(answer)) == (200, ["outputs"])
    outputs = answer["outputs"]
    assert np.float32(outputs.pop("mean")).tolist() == ANSWERS["mean"]
    assert outputs == {name: value for name, value in ANSWERS.items() if name != "mean"}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    status, answer = ask(server, MIXED, {"instances": rows})
    assert (status, list(answer)) == (200, ["predictions"])
    for k, row in enumerate(answer["predictions"]):
        assert np.float32(row.pop("mean")) == np.float32(ANSWERS["mean"][k])
        assert row == {name: value[k] for name, value in ANSWERS.items() if name != "mean"}


def test_binary_values(server):
    content = base64.b64encode(b"\x00\xffPNG").decode()
    row = {"tag": {"b64": content}, "signal": [0] * 5, "sensor": [[0, 0], [0, 0]]}
    status, answer = ask(server, MIXED, {"instances": [row]})
    assert (status, answer["predictions"][0]["name_bytes"]) == (200, {"b64": content})


def test_values_that_strict_json_does_not_know(server):
    body = '{"instances": [NaN, Infinity, -Infinity, 1e0]}'
    response = server.post(f"{HALF}:predict", content=body)
    assert response.status_code == 200
    assert response.text.replace(" ", "") == '{"predictions":[NaN,Infinity,-Infinity,3.5]}'


def test_images_as_png_and_jpeg(server, folder, images, encode):
    model = tf.saved_model.load(str(folder / "classification" / "2"))
    files = [encode(images[0]), encode(images[1], "JPEG"), encode(images[2])]
    coded = [{"b64": base64.b64encode(file).decode()} for file in files]
    expected = model.signatures["serving_default"](image_bytes=tf.constant(files))
    for place in ("", "/versions/2"):
        status, answer = ask(server, HEAD + place, {"instances": coded})
        assert status == 200
        for k, row in enumerate(answer["predictions"]):
            assert set(row) == {"probabilities", "class_id"}
            np.testing.assert_allclose(
                row["probabilities"], expected["probabilities"][k], rtol=1e-5
            )
            assert row["class_id"] == int(expected["class_id"][k])
    _, older = ask(server, HEAD + "/versions/1", {"instances": coded})
    assert older["predictions"] != answer["predictions"]
    image = images[1][np.newaxis, ..., np.newaxis].tolist()
    request = {"signature_name": "serving_image", "inputs": {"image": image}}
    status, answer = ask(server, HEAD, request)
    expected = model.signatures["serving_image"](image=tf.constant(image, tf.float32))
    np.testing.assert_allclose(
        answer["outputs"]["probabilities"], expected["probabilities"], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("url", "body", "status", "words"),
    [
        (HALF, "", 400, "no JSON"),
        (HALF, "instances = [1, 2]", 400, "no JSON"),
        (HALF, b'{"instances": ["\xff"]}', 400, "no JSON"),
        (HALF, "[" * 100_000, 400, "nested too deeply"),
        (HALF, {}, 400, "give instances"),
        (HALF, {"signature_name": "none", "instances": [1]}, 400, "has serving_default"),
        (HALF, {"signature_name": "\ud800", "instances": [1]}, 400, "has serving_default"),
        (HALF, {"instances": [{"\ud800": 1}]}, 400, "an object with x"),
        (HALF, {"instances": ["\ud800"]}, 400, "is no float32"),
        (HALF, {"instances": [1, [2]]}, 400, "mixed"),
        (MIXED, {"instances": [{"tag": "a"}]}, 400, "an object with sensor, signal, tag"),
        (HEAD, {"instances": [{"b64": "?"}]}, 400, "cannot be decoded"),
        (HEAD, {"instances": [{"b64": "AAAA"}]}, 400, "cannot be decoded"),
        (f"{MODELS}/half", {"instances": [1]}, 404, "There is no model half that can be asked."),
        (f"{HALF}/versions/99", {"instances": [1]}, 404, "no version 99 of a model half_plus"),
        (f"{HALF}/versions/{2**64 - 1}", {"instances": [1]}, 404, f"no version {2**64 - 1} of"),
    ],
)
def test_predict_errors(server, url, body, status, words):
    found, answer = ask(server, url, body)
    assert (found, list(answer)) == (status, ["error"])
    assert words in answer["error"]


def test_the_documented_error(server):
    """`curl -i -d '{"instances": [1.0,5.0]}' -X POST http://localhost:8501/v1/models/half:predict`"""
    response = server.post(
        f"{MODELS}/half:predict",
        content='{"instances": [1.0,5.0]}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert error(response) == (404, "There is no model half that can be asked.")


@pytest.mark.parametrize("place", ["", "/versions/123"])
def test_status(server, place):
    response = server.get(HALF + place)
    assert response.headers["content-type"] == JSON
    assert response.json() == {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def as_protobuf_writes(message, **options):
    return MessageToDict(message, always_print_fields_with_no_presence=True, **options)


def test_status_is_the_protobuf(server):
    response = server.get(HEAD)
    message = Parse(response.text, GetModelStatusResponse())
    assert [one.version for one in message.model_version_status] == [2, 1]
    assert {one.state for one in message.model_version_status} == {30}  # AVAILABLE
    assert {one.status.error_code for one in message.model_version_status} == {0}  # OK
    assert as_protobuf_writes(message) == response.json()


@pytest.mark.parametrize(("name", "version"), [("classification", 2), ("half_plus_three", 123)])
def test_metadata_is_the_protobuf(server, folder, name, version):
    answers = [
        server.get(f"{MODELS}/{name}{place}/metadata") for place in ("", f"/versions/{version}")
    ]
    assert answers[0].headers["content-type"] == JSON
    assert answers[0].json() == answers[1].json()
    answer = answers[0].json()
    assert set(answer) == {"model_spec", "metadata"}
    # TensorFlow Serving prints the Any in it without its type.
    answer["metadata"]["signature_def"]["@type"] = (
        "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    )
    message = ParseDict(answer, GetModelMetadataResponse())
    assert (message.model_spec.name, message.model_spec.version.value) == (name, version)
    definitions = SignatureDefMap()
    assert message.metadata["signature_def"].Unpack(definitions)
    model = saved_model_pb2.SavedModel.FromString(
        (folder / name / str(version) / "saved_model.pb").read_bytes()
    )
    expected = dict(model.meta_graphs[0].signature_def)
    assert dict(definitions.signature_def) == expected
    written = as_protobuf_writes(definitions, preserving_proto_field_name=True)
    del answer["metadata"]["signature_def"]["@type"]
    assert answer["metadata"]["signature_def"] == written
    spec = as_protobuf_writes(message.model_spec, preserving_proto_field_name=True)
    assert answer["model_spec"] == spec


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/half", 404, "There is no model half"),
        ("/half_plus_three/versions/9", 404, "There is no version 9 of a model half_plus_three"),
        ("/half_plus_three/labels/x", 404, "Nothing here answers GET /v1/models/half_plus_"),
        (f"/half_plus_three/versions/{2**63}", 404, f"There is no version {2**63} of"),
        ("/half/metadata", 404, "There is no model half"),
        ("/half_plus_three/versions/9/metadata", 404, "There is no version 9 of"),
        ("/half_plus_three/versions/HELLO", 404, "Nothing here answers GET /v1/models/half_plus_"),
        ("/half_plus_three/version/50", 404, "Nothing here answers GET "),
        ("/half_plus_three/", 404, "Nothing here answers GET "),
        ("/half_plus_three:predict", 405, "Nothing here answers GET "),
        ("/../half_plus_three", 404, ""),
        ("/..%2f..%2fetc%2fpasswd", 404, ""),
        ("/%2e%2e", 404, ""),
        ("/a%00b", 404, ""),
        ("/%ff%fe", 404, ""),
        ("/x%3Apredict", 405, ""),
        ("/versions/1", 404, ""),
    ],
)
def test_errors_of_status_and_metadata(server, path, status, message):
    found, words = error(server.get(MODELS + path))
    assert found == status
    assert message in words


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", HALF, 405),
        ("PUT", f"{HALF}:predict", 405),
        ("DELETE", HALF, 405),
        ("POST", f"{HALF}/metadata", 405),
        ("POST", f"{HALF}/versions/HELLO:predict", 404),
        ("POST", f"{HALF}/version/50:predict", 404),
        ("POST", f"{HALF}:multiinference", 404),
        ("GET", "/v1/foo", 404),
        ("GET", "/v2/models/x", 404),
        ("NONSENSE", "/", 405),
    ],
)
def test_wrong_paths_and_methods(server, method, path, status):
    response = server.request(method, path)
    assert error(response) == (status, f"Nothing here answers {method} {path}")
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_other_methods_of_tensorflow_serving(server, method):
    assert error(server.post(f"{HALF}:{method}", content="{}"))[0] == 404


def test_health_and_metrics(server, folder):
    assert server.get("/healthz").json() == {"status": "ok"}
    assert server.get("/readyz").json() == {"status": "ready"}
    before = counted(server)
    ask(server, HALF, {"instances": [1.0, 2.0, 5.0]})
    ask(server, HALF + "/versions/0123", {"inputs": [1.0]})
    ask(server, HALF, {"instances": ["x"]})
    ask(server, HALF + "/versions/9", {"instances": [1.0]})
    for k in range(20):
        ask(server, f"{MODELS}/DOE{k}", {"instances": [1.0]})
        server.get(f"/DOE{k}")
    after = counted(server)
    text = server.get("/metrics").text
    assert "DOE" not in text
    predict, one = "/v1/models/{name}:predict", "/v1/models/{name}/versions/{version}:predict"
    new = {key: after[key] - before.get(key, 0) for key in after}
    assert new[predict, "half_plus_three", "123", "200"] == 1
    assert new[one, "half_plus_three", "123", "200"] == 1
    assert new[predict, "half_plus_three", "123", "400"] == 1
    assert new[one, "unknown", "unknown", "404"] == 1
    assert new[predict, "unknown", "unknown", "404"] == 20
    assert new["unknown", "", "", "404"] == 20
    assert 'tf_dicom_ce_request_instances_bucket{le="1.0",model="half_plus_three"}' in text
    assert "tf_dicom_ce_running 0.0" in text
    assert "tf_dicom_ce_in_progress 1.0" in text  # this one
    assert "tf_dicom_ce_connections 1.0" in text


def counted(server):
    """Requests by (route, model, version, code)."""
    from prometheus_client.parser import text_string_to_metric_families

    response = server.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    labels = ("route", "model", "version", "code")
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name == "tf_dicom_ce_requests_total"
    }


def test_the_log_has_no_words_of_clients(server, caplog):
    def words():
        return [record.getMessage().rsplit(" ", 2)[0] for record in caplog.records]

    def is_healthz_logged():
        return any("/healthz" in line for line in words())

    with caplog.at_level("INFO", logger="tf_dicom_ce.serving"):
        server.get("/healthz")  # a request is logged after its answer: that of the test before
        until(is_healthz_logged)
        caplog.clear()
        server.post(f"{HALF}:predict?name=DOE", content='{"instances": ["DOE"]}')
        server.get(f"{MODELS}/DOE/versions/4242", headers={"X-Name": "DOE"})
        server.request("DOE", "/DOE")
        server.get("/healthz")
        until(is_healthz_logged)
    assert "DOE" not in caplog.text and "4242" not in caplog.text
    assert words() == [
        "POST /v1/models/{name}:predict model=half_plus_three version=123 400",
        "GET /v1/models/{name}/versions/{version} model=unknown version=unknown 404",
        "unknown unknown model= version= 404",
        "GET /healthz model= version= 200",
    ]


def test_long_bodies_over_http(half, serve_models):
    with (
        serve_models(half, max_body=1000) as url,
        httpx.Client(base_url=url, verify=False) as server,
    ):
        long = json.dumps({"instances": [1.0] * 1000})
        assert error(server.post(f"{HALF}:predict", content=long))[0] == 413
        parts = (part.encode() for part in (long[:900], long[900:]))
        assert error(server.post(f"{HALF}:predict", content=parts))[0] == 413
        with pytest.raises(urllib.error.HTTPError) as caught:  # it sends everything first
            urllib.request.urlopen(f"{url}{HALF}:predict", b"x" * (8 << 20))
        with caught.value as answer:
            assert (answer.status, "1000 bytes" in json.load(answer)["error"]) == (413, True)
        assert ask(server, HALF, {"instances": [1.0]})[0] == 200


def test_token_over_http(half, serve_models):
    with (
        serve_models(half, tokens={"reader": "s3cret"}) as url,
        httpx.Client(base_url=url, verify=False) as server,
    ):
        for path in (HALF, f"{HALF}/metadata", MODELS, "/metrics"):
            assert error(server.get(path))[0] == 401
            assert server.get(path, headers={"Authorization": "Bearer s3cret"}).is_success
        assert error(server.post(f"{HALF}:predict", content="{}"))[0] == 401
        assert error(server.post(f"{HALF}/dicom", content=b""))[0] == 401
        for path in ("/", "/docs", "/openapi.json"):
            assert server.get(path).is_success


@pytest.mark.parametrize(
    "head",
    [
        b"GET /nowhere HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET /a%3Fb%23c HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1/v1/models/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST /v1/models/half_plus_three:predict HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_odd_heads_are_no_faults(server, head):
    url = server.base_url
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(head)
        status = int(connection.recv(1 << 16).split(b" ")[1])
    assert 200 <= status < 500
    assert server.get("/healthz").status_code == 200


def test_a_length_that_is_told_twice_ends_the_connection(server):
    head = b"POST /v1/models/half_plus_three:predict HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    url, found = server.base_url, b""
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(head + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while part := connection.recv(1 << 16):
            found += part
    assert found.startswith(b"HTTP/1.1 400 ") and b"connection: close" in found.lower()
    assert found.count(b"HTTP/1.1 ") == 1  # what follows is no request


def test_dicom_is_served(server):
    response = server.post(
        f"{MODELS}/segmentation/dicom",
        content=b"\0" * 500,
        headers={"Content-Type": "application/dicom"},
    )
    status, message = error(response)
    assert (status, "not-dicom" in message) == (415, True)


@pytest.mark.slow
def test_overwriting_a_version_loses_no_request(
    tmp_path, repository_folder, second_classifier, serve_models, images, encode
):
    root = tmp_path / "models"
    shutil.copytree(repository_folder / "classification", root / "classification")
    place, file = root / "classification" / "1", encode(images[0])
    first, second = repository_folder / "classification" / "1", second_classifier
    body = json.dumps({"instances": [{"b64": base64.b64encode(file).decode()}]})
    expected = [answer_in_process(path, file) for path in (first, second)]
    assert np.abs(expected[0] - expected[1]).max() > 10 * SAME
    found, stop = [], threading.Event()

    def keep_asking(url):
        with httpx.Client(base_url=url, timeout=60, verify=False) as client:
            while not stop.is_set():
                response = client.post(f"{HEAD}:predict", content=body)
                found.append((response.status_code, response.text))

    with serve_models(root, poll_seconds=0.1) as url:
        threads = [threading.Thread(target=keep_asking, args=(url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for folder, answer in zip((second, first), expected[::-1], strict=True):
                shutil.copytree(folder, place, dirs_exist_ok=True)
                wait_for(found, answer)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert {status for status, _ in found} == {200}
    answers = np.array([probabilities(text) for _, text in found])
    distances = [np.abs(answers - one).max(1) for one in expected]
    assert np.minimum(*distances).max() < SAME  # every answer is of one version or the other
    assert all((distance < SAME).any() for distance in distances)


def answer_in_process(folder, file):
    model = tf.saved_model.load(str(folder))
    answer = model.signatures["serving_default"](image_bytes=tf.constant([file]))
    return answer["probabilities"][0].numpy()


def probabilities(text):
    return json.loads(text)["predictions"][0]["probabilities"]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for(found, expected):
    """Until the newest answers are the expected ones."""

    def are_expected():
        newest = [text for status, text in found[-16:] if status == 200]
        return len(newest) == 16 and all(
            np.abs(np.array(probabilities(text)) - expected).max() < SAME for text in newest
        )

    until(are_expected)
