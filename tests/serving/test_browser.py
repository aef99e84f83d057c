"""The page in Debian's chromium, before a server whose answers are known."""

import base64
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.app import create_app
from tf_dicom_ce.serving.settings import Settings

pytestmark = pytest.mark.browser

CINE, STILL = (
    Path(get_testdata_file(f"examples_{name}.dcm", download=False))
    for name in ("ybr_color", "palette")
)
MASK = np.zeros((8, 8), np.uint8)
MASK[2:6, 2:6] = 1
MASK[6:, 6:] = 2
DROP = """([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
  return data;
}"""
PASTE = """(data) => dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }))"""
PIXEL = """(canvas, [x, y]) => Array.from(canvas.getContext("2d")
  .getImageData(x * canvas.width, y * canvas.height, 1, 1).data.slice(0, 3))"""


class Head:
    """Is sure of MASK at the image's size, or answers with probabilities; one is a stranger."""

    version = 1

    def __init__(self, name, task, classes):
        self.name = name
        self.content = {"task": task, "classes": classes, "data_fingerprint": "f"}
        self.content["weights_digest"] = "d" * 64
        self.content["synthetic_data"] = name == "organs"
        self.content["familiarity"] = {"threshold": 0.5}

    def predict(self, signature, inputs):
        if self.name == "organs":
            of = [(2 * np.arange(n) + 1) * 8 // (2 * n) for n in inputs["image"].shape[1:3]]
            return {"probabilities": np.eye(3, dtype=np.float32)[MASK[np.ix_(*of)]][np.newaxis]}
        answer = {"probabilities": np.array([[0.2, 0.7, 0.1]]), "class_id": np.array([1])}
        return answer | ({"familiarity": np.array([0.2])} if self.name == "stranger" else {})


class Heads:
    ready = True

    def __init__(self):
        self.heads = {
            "organs": Head("organs", "segmentation", ["background", "liver", "kidney"]),
            "view": Head("view", "classification", ["poor", "fair", "good"]),
            "stranger": Head("stranger", "classification", ["poor", "fair", "good"]),
        }

    def newest(self):
        return self.heads

    def get(self, name, version=None):
        if name not in self.heads:
            raise RequestError(404, f"no {name}")
        return self.heads[name]


@pytest.fixture(scope="module")
def url(serve_app):
    with serve_app(create_app(Heads(), Settings())) as address:
        yield address


@pytest.fixture
def page(browser, url):
    """A page whose scripts throw nothing and whose policy refuses nothing."""
    wrong = []
    with browser.new_context(base_url=url) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        yield page
    # That a request was refused is said by the browser, too.
    assert [words for words in wrong if "Failed to load resource" not in words] == []


def files_of(page, path, name="image"):
    """A DataTransfer in the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    return page.evaluate_handle(DROP, [content, name])


def drop(page, path):
    page.dispatch_event("#drop", "drop", {"dataTransfer": files_of(page, path)})


def status(page, words):
    expect(page.locator("#status")).to_contain_text(words)


def colour(page, x, y):
    return page.locator("#canvas").evaluate(PIXEL, [x, y])


def size_of_liver(of):
    """Of the first rectangle of MASK in a calibrated region: half of its sides."""
    header = dcmread(of)
    (item,) = (r for r in header.SequenceOfUltrasoundRegions if r.RegionDataType == 1)
    right = min(item.RegionLocationMaxX1 + 1, header.Columns)
    bottom = min(item.RegionLocationMaxY1 + 1, header.Rows)  # it goes beyond the image
    wide = (right - item.RegionLocationMinX0) * item.PhysicalDeltaX
    high = (bottom - item.RegionLocationMinY0) * item.PhysicalDeltaY
    a, b = 10 * wide / 2, 10 * high / 2
    diagonal = np.hypot(a, b)
    across = 2 * a * b / diagonal  # the two other corners, on either side of it
    return f"{a * b / 100:.1f} cm², {diagonal:.1f} × {across:.1f} mm"


def test_drop_see_download(page):
    page.goto("/")
    drop(page, STILL)
    status(page, f"liver {size_of_liver(STILL)}, kidney ")
    expect(page.locator("#meaning")).to_contain_text("Area, longest diameter")
    assert page.locator("#file").input_value().endswith("image")
    assert page.locator("#synthetic").is_visible()
    orange, blue = [255, 190, 60], [80, 200, 255]
    assert colour(page, 0.25, 0.5) == orange  # the left border of the liver
    assert colour(page, 0.5, 0.75) == orange
    assert colour(page, 0.75, 0.9) == blue
    assert colour(page, 0.5, 0.5) not in (orange, blue)
    page.get_by_role("checkbox", name="liver").uncheck()
    assert colour(page, 0.25, 0.5) != orange
    assert colour(page, 0.75, 0.9) == blue
    with page.expect_download() as download:
        page.get_by_text("Save as DICOM SEG").click()
    assert download.value.suggested_filename == "organs-1-seg.dcm"
    result, source = dcmread(download.value.path()), dcmread(STILL)
    assert [one.SegmentLabel for one in result.SegmentSequence] == ["liver", "kidney"]
    assert result.pixel_array.shape == (2, source.Rows, source.Columns)
    assert result.StudyInstanceUID == source.StudyInstanceUID
    with page.expect_download() as download:
        page.get_by_text("Save the picture with outlines").click()
    assert download.value.suggested_filename == "organs-1-outlines.png"


def test_keyboard_alone(page):
    # From the start, as a chooser that is asked for by a key opens at once.
    page.on("filechooser", lambda chooser: chooser.set_files(CINE))
    page.goto("/")
    expect(page.locator("#model")).to_be_enabled()
    press = page.keyboard.press

    def tab_to(selector):
        for _ in range(12):
            press("Tab")
            if page.locator(f"{selector}:focus").count():
                return
        raise AssertionError(f"no way to {selector}")

    tab_to("#model")
    tab_to("#file")
    press("Enter")
    status(page, "frame 16 of 30")
    tab_to("#slider")
    press("ArrowRight")
    press("ArrowRight")
    status(page, "frame 18 of 30")
    assert page.locator("#slider:focus").count()
    tab_to("#number")
    press("Control+A")
    page.keyboard.type("3")
    status(page, "frame 3 of 30")
    assert page.locator("#slider").input_value() == "3"
    tab_to("#classes input")
    press("Space")
    assert colour(page, 0.25, 0.5) != [255, 190, 60]
    tab_to("#save-dicom")
    with page.expect_download() as download:
        press("Enter")
    result = dcmread(download.value.path())
    image = result.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert image.SourceImageSequence[0].ReferencedFrameNumber == 3
    tab_to("#save-report")
    with page.expect_download() as download:
        press("Enter")
    report = dcmread(download.value.path())
    assert report.Modality == "SR"
    named = {e.value for e in report.iterall() if e.keyword == "ReferencedFrameNumber"}
    assert named == {3}


def test_classification(page):
    page.goto("/")
    page.get_by_label("Model").select_option("view, version 1")
    page.get_by_label("DICOM, PNG or JPEG file").set_input_files(STILL)
    status(page, "Class fair (poor: 20.0 %, fair: 70.0 %, good: 10.0 %).")
    expect(page.locator("#result-title")).to_have_text("Class fair")
    expect(page.locator("#meaning")).to_contain_text("Probability")
    widths = page.locator(".bar span").evaluate_all(
        "(bars) => bars.map((bar) => bar.clientWidth / bar.parentElement.clientWidth)"
    )
    assert widths == pytest.approx([0.2, 0.7, 0.1], abs=0.01)
    expect(page.locator(".best")).to_contain_text("fair")
    expect(page.locator("#save-picture")).to_be_hidden()
    expect(page.locator("#save-report")).to_be_hidden()
    with page.expect_download() as download:
        page.get_by_text("Save as DICOM SR").click()
    assert "fair" in str(dcmread(download.value.path()))


def test_an_unfamiliar_cine(page):
    page.goto("/")
    page.get_by_label("Model").select_option("stranger, version 1")
    page.get_by_label("DICOM, PNG or JPEG file").set_input_files(CINE)
    expect(page.get_by_role("alert")).to_contain_text("its familiarity is 0.20, and below 0.5")
    expect(page.locator("#result")).to_be_hidden()
    page.get_by_text("Look at it all the same").click()
    status(page, "frame 16 of 30")
    expect(page.locator("#unfamiliar")).to_be_visible()
    expect(page.locator("#familiarity")).to_contain_text("0.20")
    page.get_by_label("Frame number").fill("3")
    status(page, "frame 3 of 30")  # it does not ask again
    with page.expect_download():
        page.get_by_text("Save as DICOM SR").click()


def test_a_pasted_picture(page, tmp_path, encode):
    path = tmp_path / "image.png"
    path.write_bytes(encode(np.full((20, 30), 90, np.uint8)))
    page.goto("/")
    expect(page.locator("#model")).to_be_enabled()
    page.evaluate(PASTE, files_of(page, path))
    status(page, "liver 25.0 %")
    expect(page.locator("#meaning")).to_contain_text("Share of the image")
    assert colour(page, 0.5, 0.5) == [90, 90, 90]
    expect(page.locator("#save-dicom")).to_be_hidden()


def test_errors_in_words(page, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear John")
    page.goto("/")
    expect(page.locator("#model")).to_be_enabled()
    drop(page, path)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("not-dicom")
    expect(page.locator("#result")).to_be_hidden()
    drop(page, STILL)
    status(page, "liver")
    expect(alert).not_to_contain_text("not-dicom")


def test_a_server_that_is_away_or_late(page):
    page.add_init_script("AbortSignal.timeout = ((f) => () => f(500))(AbortSignal.timeout)")
    page.route("**/v1/models", lambda route: route.abort())
    page.goto("/")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("does not answer")
    page.unroute("**/v1/models")
    page.get_by_text("Try again").click()
    expect(page.locator("#model")).to_be_enabled()
    page.route("**/dicom?*", lambda route: None)
    drop(page, STILL)
    expect(alert).to_contain_text("longer than a minute")
    page.unroute("**/dicom?*")
    page.evaluate("AbortSignal.timeout = () => new AbortController().signal")
    page.get_by_text("Try again").click()
    status(page, "liver")
    expect(page.locator("#error-words")).to_be_empty()
    expect(page.locator("#file")).to_be_focused()


def test_a_token(page, serve_app):
    with serve_app(create_app(Heads(), Settings(tokens={"reader": "open-sesame"}))) as address:
        page.goto(address)
        field = page.get_by_label("Access token")
        expect(field).to_be_focused()
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not accept this token")
        field.fill("open-sesame")
        page.keyboard.press("Enter")
        expect(field).to_be_hidden()
        expect(page.locator("#model")).to_be_focused()
        drop(page, STILL)
        status(page, "liver")
        page.get_by_role("link", name="The same by HTTP").click()
        expect(page).to_have_title("tf-dicom-ce 0.1.0: HTTP API")
        page.get_by_role("link", name="openapi.json", exact=True).click()
        expect(page.locator("body")).to_contain_text("bearer")
        page.goto("about:blank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 400])
def test_nothing_is_wider_than_the_window(page, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/")
    expect(page.locator("#model")).to_be_enabled()
    drop(page, CINE)
    status(page, "liver")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
