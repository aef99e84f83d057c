"""Images over HTTP, answered by heads whose answers are known."""

import base64
import io
import stat
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41
from starlette.applications import Starlette

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.masks import outline
from tf_dicom_ce.results.files import dicom_bytes
from tf_dicom_ce.results.source import open_image
from tf_dicom_ce.serving import dicom_http
from tf_dicom_ce.serving.dicom_http import negotiate
from tf_dicom_ce.serving.limits import Limits, error_response
from tf_dicom_ce.serving.settings import Settings
from tf_dicom_ce.workers import Failure, GuardedCalls, Outage

SEGMENTATION, CLASSIFICATION = "/v1/models/organs/dicom", "/v1/models/view/dicom"
MAPS = np.random.default_rng(2).dirichlet(np.ones(3), (4, 6)).astype(np.float32)
CONTENT = {"weights_digest": "d" * 64, "data_fingerprint": "f" * 64, "synthetic_data": False}
DICOM = {"Content-Type": "application/dicom"}


class Head:
    """Answers with MAPS, or with the third of the gray levels that the mean lies in."""

    def __init__(self, name, task, classes):
        self.name, self.version = name, 3
        self.content = CONTENT | ({"task": task, "classes": classes} if task else {})

    def predict(self, signature, inputs):
        assert signature == "serving_image"
        (image,) = inputs["image"]
        assert image.dtype == np.float32
        if self.content["task"] == "segmentation":
            return {"probabilities": MAPS[np.newaxis], "mask": MAPS.argmax(-1)[np.newaxis]}
        probabilities = np.full(3, 0.125, np.float32)
        probabilities[int(image.mean() // 86)] = 0.75
        return {"probabilities": probabilities[np.newaxis], "class_id": [probabilities.argmax()]}


class Heads:
    def __init__(self):
        heads = (
            Head("organs", "segmentation", ["background", "liver", "left | kidney"]),
            Head("view", "classification", ["dark", "middling", "bright"]),
            Head("encoder", None, None),
        )
        self.heads = {head.name: head for head in heads}

    def newest(self):
        return self.heads

    def get(self, name, version=None):
        if name not in self.heads or version not in (None, 3):
            raise RequestError(404, f"no {name} {version}")
        return self.heads[name]


def refuse(request, error):
    return error_response(error)


def known_heads(**content):
    heads = Heads()
    for head in heads.heads.values():
        head.content |= content
    return Starlette(routes=dicom_http.routes(heads), exception_handlers={RequestError: refuse})


@pytest.fixture(scope="module")
def server(serve_app):
    with (
        serve_app(known_heads()) as url,
        httpx.Client(base_url=url, timeout=60, verify=False) as client,
    ):
        yield client


@pytest.fixture
def file(write):
    """Writes a data set and returns the file's bytes."""
    return lambda pixels, **elements: write("image", pixels, **elements).read_bytes()


def region(top, left, bottom, right):
    part = Dataset()
    part.RegionSpatialFormat, part.RegionDataType, part.RegionFlags = 1, 1, 0
    part.RegionLocationMinX0, part.RegionLocationMinY0 = left, top
    part.RegionLocationMaxX1, part.RegionLocationMaxY1 = right, bottom
    return Sequence([part])


def cine(file, *levels, **elements):
    """The bytes of a file whose frames are 40 x 60 pixels of one level each."""
    pixels = np.repeat(np.array(levels, np.uint8), 40 * 60).reshape(-1, 60)
    return file(pixels, Rows=40, NumberOfFrames=len(levels), **elements)


def picture(answer):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["b64"]))))


def post(server, url, content, accept="*/*", content_type="application/dicom"):
    headers = {"Content-Type": content_type, "Accept": accept}
    return server.post(url, content=content, headers=headers)


@pytest.fixture
def in_region(file):
    """A file of 50 x 80 random pixels, its pixels, and the place of its region."""
    pixels = np.random.default_rng(1).integers(0, 256, (50, 80), np.uint8)
    content = file(pixels, SequenceOfUltrasoundRegions=region(4, 10, 43, 69))
    return content, pixels, (slice(4, 44), slice(10, 70))


def enlarged(maps, shape):
    return tf.image.resize(maps, shape, antialias=True).numpy().argmax(axis=-1)


def expected_mask():
    whole = np.zeros((50, 80), np.uint8)
    whole[4:44, 10:70] = enlarged(MAPS, (40, 60))
    return whole


def test_segmentation_as_json(server, in_region):
    content, pixels, place = in_region
    response = post(server, SEGMENTATION + "?picture=true", content)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert answer["model"] == {
        "name": "organs",
        "version": "3",
        "weights_digest": "d" * 64,
        "task": "segmentation",
        "synthetic": False,
        "threshold": None,
    }
    assert "esearch use only" in answer["notice"]
    assert answer["image"] == {
        "format": "dicom",
        "rows": 50,
        "columns": 80,
        "frame": 0,
        "frames": 1,
        "region": {"top": 4, "left": 10, "height": 40, "width": 60},
    }
    counts = np.bincount(expected_mask()[place].ravel())
    assert counts.min() > 100
    assert [(one["name"], one["share"]) for one in answer["classes"]] == [
        (name, round(count / 2400, 6))
        for name, count in zip(("background", "liver", "left | kidney"), counts, strict=True)
    ]
    assert [one["colour"] for one in answer["classes"]] == [None, "#ffbe3c", "#50c8ff"]
    np.testing.assert_array_equal(picture(answer["mask"]), expected_mask())
    np.testing.assert_array_equal(picture(answer["picture"]), pixels[place])
    assert "picture" not in post(server, SEGMENTATION, content).json()


def test_segmentation_as_dicom(server, in_region):
    content, *_ = in_region
    response = post(server, SEGMENTATION, content, "application/dicom")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/dicom"
    assert response.headers["content-disposition"] == 'attachment; filename="organs-3-seg.dcm"'
    result = dcmread(io.BytesIO(response.content))
    assert [one.SegmentLabel for one in result.SegmentSequence] == ["liver", "left | kidney"]
    expected = np.stack([expected_mask() == label for label in (1, 2)])
    np.testing.assert_array_equal(result.pixel_array, expected)
    source = dcmread(io.BytesIO(content))
    referenced = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referenced.ReferencedSOPInstanceUID == source.SOPInstanceUID
    again = post(server, SEGMENTATION, content, "application/dicom")
    assert dcmread(io.BytesIO(again.content)).SOPInstanceUID == result.SOPInstanceUID


def test_the_report_of_a_segmentation(server, file):
    """Its numbers are those of the JSON; without a calibration the shares."""
    part = region(4, 10, 43, 69)
    pixels = np.random.default_rng(1).integers(0, 256, (50, 80), np.uint8)
    for calibration in ({}, {"PhysicalDeltaX": 0.05, "PhysicalDeltaY": 0.04}):
        for keyword, value in calibration.items():
            part[0].PhysicalUnitsXDirection = part[0].PhysicalUnitsYDirection = 3
            setattr(part[0], keyword, value)
        content = file(pixels, SequenceOfUltrasoundRegions=part)
        response = post(server, SEGMENTATION + "?report=true", content, "application/dicom")
        assert response.headers["content-disposition"].endswith('"organs-3-sr.dcm"')
        report = dcmread(io.BytesIO(response.content))
        found = [e.value[0] for e in report.iterall() if e.keyword == "MeasuredValueSequence"]
        classes = post(server, SEGMENTATION, content).json()["classes"][1:]
        names = ("area_cm2", "longest_mm", "perpendicular_mm") if calibration else ("share",)
        assert [float(one.NumericValue) for one in found] == [
            one[name] for one in classes for name in names
        ]


def test_segmentation_as_a_picture(server, in_region):
    content, pixels, place = in_region
    response = post(server, SEGMENTATION, content, "image/png")
    assert response.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(response.content)))
    np.testing.assert_array_equal(drawn[:40], outline(pixels[place], expected_mask()[place]))


@pytest.mark.parametrize(("level", "name"), [(20, "dark"), (120, "middling"), (200, "bright")])
def test_classification(server, file, level, name):
    content = cine(file, level)
    answer = post(server, CLASSIFICATION, content).json()
    assert answer["class"] == name
    assert {one["name"]: one["probability"] for one in answer["classes"]} == {
        "dark": 0.125,
        "middling": 0.125,
        "bright": 0.125,
    } | {name: 0.75}
    response = post(server, CLASSIFICATION, content, "application/dicom")
    assert response.headers["content-disposition"].endswith('"view-3-sr.dcm"')
    report = dcmread(io.BytesIO(response.content))
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert name in str(report) and "0.75" in str(report)


def test_frames_of_a_cine(server, file):
    content = cine(file, 0, 120, 255)
    for query, frame, name in (
        ("", 1, "middling"),
        ("?frame=0", 0, "dark"),
        ("?frame=2", 2, "bright"),
    ):
        answer = post(server, CLASSIFICATION + query, content).json()
        assert (answer["class"], answer["image"]["frame"]) == (name, frame)
        assert answer["image"]["frames"] == 3
    result = post(server, SEGMENTATION + "?frame=2", content, "application/dicom").content
    reference = dcmread(io.BytesIO(result)).PerFrameFunctionalGroupsSequence[0]
    image = reference.DerivationImageSequence[0].SourceImageSequence[0]
    assert image.ReferencedFrameNumber == 3  # DICOM counts from 1
    response = post(server, CLASSIFICATION + "?frame=3", content)
    assert response.status_code == 400
    assert "frame-out-of-range" in response.json()["error"]


@pytest.mark.parametrize("frame", ["-1", "1.5", "x", "", "²", "9" * 30])
def test_a_frame_is_a_number(server, file, frame):
    response = server.post(
        CLASSIFICATION, params={"frame": frame}, content=cine(file, 9), headers=DICOM
    )
    assert (response.status_code, "count from 0" in response.text) == (400, True)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_pictures(server, encode, form):
    content = encode(np.full((20, 30), 200, np.uint8), form)
    kind = f"image/{form.lower()}"
    answer = post(server, CLASSIFICATION, content, content_type=kind).json()
    assert (answer["class"], answer["image"]["format"]) == ("bright", "picture")
    assert answer["image"]["region"] == {"top": 0, "left": 0, "height": 20, "width": 30}
    mask = post(server, SEGMENTATION, content, content_type=kind).json()["mask"]
    np.testing.assert_array_equal(picture(mask), enlarged(MAPS, (20, 30)))
    assert post(server, SEGMENTATION, content, "image/png", kind).status_code == 200
    response = post(server, SEGMENTATION, content, "application/dicom", kind)
    assert response.status_code == 406
    assert "needs a DICOM file" in response.json()["error"]
    assert post(server, SEGMENTATION + "?frame=1", content, content_type=kind).status_code == 400


def test_a_classification_has_no_outlines(server, file):
    response = post(server, CLASSIFICATION, cine(file, 9), "image/png")
    assert (response.status_code, "needs a segmentation" in response.text) == (406, True)


def test_forms(server, file):
    content = cine(file, 200)
    response = server.post(CLASSIFICATION, files={"anything": ("JOHN DOE.dcm", content)})
    assert response.json()["class"] == "bright"
    assert "JOHN" not in response.text
    for form in (
        {"files": {"a": b"1", "b": b"2"}},
        {"files": {"": ""}, "data": {"file": "text"}},
        {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"??", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ):
        assert server.post(CLASSIFICATION, **form).status_code in (400, 415)


@pytest.mark.parametrize(
    "name", ["examples_ybr_color", "examples_rgb_color", "examples_jpeg2k", "examples_palette"]
)
def test_real_files(server, name):
    content = Path(get_testdata_file(f"{name}.dcm", download=False)).read_bytes()
    header = dcmread(io.BytesIO(content), stop_before_pixels=True)
    answer = post(server, SEGMENTATION, content).json()
    assert picture(answer["mask"]).shape == (header.Rows, header.Columns)
    seg = dcmread(io.BytesIO(post(server, SEGMENTATION, content, "application/dicom").content))
    assert (seg.Rows, seg.Columns) == (header.Rows, header.Columns)
    sr = dcmread(io.BytesIO(post(server, CLASSIFICATION, content, "application/dicom").content))
    assert sr.StudyInstanceUID == header.StudyInstanceUID


def bomb():
    file = io.BytesIO()
    Image.new("L", (8192, 4096)).save(file, "PNG")
    return file.getvalue()


def m_mode():
    (part,) = region(0, 0, 19, 29)
    part.RegionSpatialFormat = 2
    return Sequence([part])


def test_refusals_have_code_and_remedy(server, file, encode, ramp):
    whole = file(ramp)
    cases = {
        b"": (415, "not-dicom"),
        b"\0" * 500: (415, "not-dicom"),
        whole[:-40]: (422, "truncated"),
        file(ramp, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"): (422, "not-ultrasound"),
        file(ramp, SequenceOfUltrasoundRegions=m_mode()): (422, "not-2d"),
        file(ramp, syntax=MPEG4HP41, PixelData=encapsulate([b"12"])): (422, "decode-failed"),
        file(ramp, Rows=60000, Columns=60000): (422, ""),
        encode(ramp)[:-30]: (422, "decode-failed"),
        bomb(): (422, "too-large"),
        encode(np.zeros((1, 70000), np.uint8)): (422, "too-large"),
    }
    for content, (status, code) in cases.items():
        response = post(server, SEGMENTATION, content)
        assert (response.status_code, code in response.json()["error"]) == (status, True), code
        assert response.json()["error"].endswith(".")
    assert post(server, SEGMENTATION, whole, content_type="text/plain").status_code == 415
    assert post(server, SEGMENTATION, whole).status_code == 200


def test_a_head_sees_images_as_it_was_trained(serve_app, file, encode):
    """What lies outside of the ultrasound is black, or the image is refused."""
    screen = np.zeros((120, 160), np.uint8)
    screen[40:110, 30:130] = np.random.default_rng(0).integers(60, 200, (70, 100))
    screen[5:20:3, 10:90:2] = 255  # as thin as letters
    app = known_heads(blank_outside=True)
    with serve_app(app) as url, httpx.Client(base_url=url, timeout=60, verify=False) as server:
        for content in (file(screen), encode(screen)):
            answer = post(server, SEGMENTATION + "?picture=true", content).json()
            seen = picture(answer["picture"])
            assert seen.shape == screen.shape
            assert not seen[:30].any()
            np.testing.assert_array_equal(seen[50:100, 40:120], screen[50:100, 40:120])
            screen[40:110] = 0
            refused = post(server, SEGMENTATION, file(screen))
            assert (refused.status_code, "no-sector" in refused.text) == (422, True)
            screen[40:110, 30:130] = np.random.default_rng(0).integers(60, 200, (70, 100))


def test_models(server, file):
    assert server.get("/v1/models").json() == {
        "models": [
            {
                "name": "organs",
                "version": "3",
                "weights_digest": "d" * 64,
                "task": "segmentation",
                "classes": ["background", "liver", "left | kidney"],
            },
            {
                "name": "view",
                "version": "3",
                "weights_digest": "d" * 64,
                "task": "classification",
                "classes": ["dark", "middling", "bright"],
            },
            {
                "name": "encoder",
                "version": "3",
                "weights_digest": "d" * 64,
                "task": None,
                "classes": [],
            },
        ]
    }
    content = cine(file, 9)
    assert post(server, "/v1/models/view/versions/3/dicom", content).status_code == 200
    assert post(server, "/v1/models/view/versions/4/dicom", content).status_code == 404
    assert post(server, "/v1/models/nothing/dicom", content).status_code == 404
    response = post(server, "/v1/models/encoder/dicom", content)
    assert (response.status_code, "features" in response.text) == (400, True)
    assert server.get(SEGMENTATION).status_code == 405


@pytest.mark.parametrize(
    ("outcome", "status", "unread", "unwritten"),
    [
        (Outage.DIED, 422, "reader-died", "(the worker's process ended)"),
        (Outage.TIMED_OUT, 503, "timed-out", "The DICOM result took too long"),
        (Failure("ValueError"), 422, "damaged-header (ValueError)", "damaged (ValueError)"),
    ],
)
def test_a_bad_file_costs_its_own_request(
    server, monkeypatch, tmp_path, file, outcome, status, unread, unwritten
):
    content = cine(file, 200)
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    call, bad = GuardedCalls.call, open_image

    def bad_call(calls, function, *arguments):
        if function is open_image:
            (copy,) = kept.iterdir()  # the file is there for the worker, and for nobody else
            assert copy.read_bytes() == content
            assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        return outcome if function is bad else call(calls, function, *arguments)

    monkeypatch.setattr(GuardedCalls, "call", bad_call)
    response = post(server, CLASSIFICATION, content)
    assert (response.status_code, unread in response.text) == (status, True)
    bad = dicom_bytes
    assert post(server, CLASSIFICATION, content).json()["class"] == "bright"
    response = post(server, CLASSIFICATION, content, "application/dicom")
    assert (response.status_code, unwritten in response.text) == (status, True)
    assert ("retry-after" in response.headers) == (status == 503)
    assert list(kept.iterdir()) == []


def test_requests_go_on_beside_each_other(server, monkeypatch, file):
    contents = [cine(file, level) for level in (20, 120, 200) * 3]
    call = GuardedCalls.call

    def late_call(*arguments):
        time.sleep(0.5)
        return call(*arguments)

    monkeypatch.setattr(GuardedCalls, "call", late_call)
    with ThreadPoolExecutor(len(contents)) as threads:
        asked = [threads.submit(post, server, CLASSIFICATION, content) for content in contents]
        time.sleep(0.1)
        assert server.get("/v1/models").status_code == 200
        assert not any(one.done() for one in asked)  # the loop is free while files are read
        found = [one.result().json()["class"] for one in asked]
    assert found == ["dark", "middling", "bright"] * 3


def test_an_answer_that_takes_too_long_is_given_up_in_time(serve_app, monkeypatch, file):
    go_on = threading.Event()
    monkeypatch.setattr(GuardedCalls, "call", lambda *arguments: go_on.wait(60))
    app = known_heads()
    app.add_middleware(Limits, settings=Settings(seconds=0.3))
    with serve_app(app) as url, httpx.Client(base_url=url, timeout=30, verify=False) as server:
        try:
            response = post(server, CLASSIFICATION, cine(file, 9))
        finally:
            go_on.set()
    assert response.status_code == 504
    assert response.json() == {"error": "No answer within 0.3 seconds."}


def test_exported_heads(repository_folder, serve_models, in_region):
    content, pixels, place = in_region
    with (
        serve_models(repository_folder) as url,
        httpx.Client(base_url=url, timeout=60, verify=False) as server,
    ):
        classified = post(server, CLASSIFICATION.replace("view", "classification"), content)
        segmented = post(server, SEGMENTATION.replace("organs", "segmentation"), content)
    levels = tf.constant(pixels[place][np.newaxis, ..., np.newaxis], tf.float32)
    expected = {
        task: tf.saved_model.load(repository_folder / task / "1").signatures["serving_image"](
            image=levels
        )
        for task in ("classification", "segmentation")
    }
    np.testing.assert_allclose(
        [one["probability"] for one in classified.json()["classes"]],
        expected["classification"]["probabilities"][0],
        atol=1e-5,
    )
    mask = enlarged(expected["segmentation"]["probabilities"][0], (40, 60))  # from 32 x 64
    np.testing.assert_array_equal(picture(segmented.json()["mask"])[place], mask)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "a/x"),
        ("*/*", "a/x"),
        ("b/y", "b/y"),
        ("B/Y ; q=0.5, */*;q=0.1", "b/y"),
        ("a/*;q=0.2, b/y;q=0.3", "b/y"),
        ("a/x;q=0, */*", "a/z"),
        ("c/c", None),
        ("a/x;q=nonsense", None),
        ("a/x;q=0", None),
        (",;,q=", None),
    ],
)
def test_accept(accept, expected):
    assert negotiate(accept, ["a/x", "a/z", "b/y"]) == expected


def test_a_head_is_asked_about_what_it_was_trained_on(serve_app):
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    ct = "1.2.840.10008.5.1.4.1.1.2"
    for classes, status in (({}, 422), ({"sop_classes": [ct]}, 200)):
        with (
            serve_app(known_heads(**classes)) as url,
            httpx.Client(base_url=url, timeout=60, verify=False) as client,
        ):
            response = post(client, CLASSIFICATION, content, "application/dicom")
        assert response.status_code == status, response.text
    report = dcmread(io.BytesIO(response.content))
    named = {e.value for e in report.iterall() if e.keyword == "ReferencedSOPClassUID"}
    assert named == {ct}
