"""The page in Debian's chromium: decisions by keyboard, and what becomes of them."""

import csv

import pytest
from playwright.sync_api import expect

from tf_dicom_ce.auditing.audit import audit
from tf_dicom_ce.auditing.finding import Finding
from tf_dicom_ce.auditing.page import write_page
from tf_dicom_ce.data.ultrasound import UltrasoundDataset

pytestmark = pytest.mark.browser


def finding(row, path, wrong=0.9, **others):
    own = {"value": "US LIVER", "group": "liver, abdomen", "proposed": "US KIDNEY"}
    own |= {"proposed_group": "kidney, abdomen", "wrong": wrong, "right": 0.9, "unit": row}
    return Finding(row=row, path=path, tag="study", **own | others)


@pytest.fixture
def page(browser):
    wrong = []
    with browser.new_context(accept_downloads=True) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text))
        page.on(
            "request", lambda request: wrong.append(request.url) if "http" in request.url else None
        )
        yield page
    assert wrong == []


@pytest.fixture
def saved(page, tmp_path):
    def save():
        with page.expect_download() as download:
            page.click("#save")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path

    return save


def test_ten_decisions_change_these_files_and_no_others(page, saved, dataset, archive, tmp_path):
    """Six are accepted, four rejected; of a study's three files one card decides."""
    rows = dataset.source.index.rows
    number = {row.path: k for k, row in enumerate(rows)}
    paths = [f"{k:02d}/0" for k in (0, 1, 3, 4, 6, 7, 8, 9, 10)]
    findings = [finding(number[path], path, 0.99 - k / 100) for k, path in enumerate(paths)]
    study = [finding(number[f"13/{k}"], f"13/{k}", 0.6, unit=999) for k in range(3)]
    rest = [finding(number["15/0"], "15/0", 0.4), finding(number["15/1"], "15/1", 0.55)]
    features = dataset.source.y[:, :2] + 0.0
    numbers = dataset.rows
    write_page(tmp_path / "audit.html", [*findings, *study, *rest], "", dataset, numbers, features)

    page.goto((tmp_path / "audit.html").as_uri())
    expect(page.locator("#progress")).to_have_text("0 of 11 decided")
    expect(page.locator("nav button")).to_have_count(11)
    assert page.locator("#pictures img").evaluate("(image) => image.naturalWidth") == 64
    for key in "aararaarr":
        page.keyboard.press(key)
    expect(page.locator("#files")).to_have_text("13/0, 13/1, 13/2")
    expect(page.locator("#pictures img")).to_have_count(3)
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("US THYROID")
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_have_text("10 of 11 decided")
    table = saved()

    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9 + 3
    before, after = (
        UltrasoundDataset.from_dicom(archive, labels=labels, image_size=(32, 64)).source.index.rows
        for labels in (None, table)
    )
    changed = {b.path: b.states["study"][1] for a, b in zip(before, after, strict=True) if a != b}
    accepted = {path for path, key in zip(paths, "aararaarr", strict=True) if key == "a"}
    expected = dict.fromkeys(accepted, "US KIDNEY") | {f"13/{k}": "US THYROID" for k in range(3)}
    assert changed == expected


def test_a_decision_can_be_taken_back(page, saved, dataset, encoder, tmp_path):
    audit(dataset, encoder, tmp_path / "run")
    page.goto((tmp_path / "run" / "audit.html").as_uri())
    expect(page.locator("#progress")).to_have_text("0 of 5 decided")
    expect(page.locator("#what")).to_contain_text("is wrong with a probability of more than 99.9 %")
    expect(page.locator("#value")).to_have_text("«US THYROID» (thyroid)")
    expect(page.locator("#alike figure")).to_have_count(4)
    expect(page.locator("details")).to_contain_text(
        "WARNING: 97% of the files of «thyroid» come from one station, but only 0% of the others"
    )
    page.click("#accept")
    page.click("#back")
    page.click("#reject")
    expect(page.locator("#files")).to_have_text("13/0, 13/1, 13/2")
    page.keyboard.press("n")
    expect(page.locator("#what")).to_have_text("is not known")
    page.keyboard.press("a")
    text = saved().read_text()
    assert text.count("\n") == 3
    assert "02/1,study,US THYROID,US LIVER,1.0000," in text
    assert text.splitlines()[1].endswith(",no")
    assert text.splitlines()[2].endswith(",yes")


def test_file_names_are_not_run_and_formulas_get_an_apostrophe(page, saved, dataset, tmp_path):
    name = "<img src=x onerror=alert(1)>"
    findings = [finding(0, "=cmd()", value=name), finding(1, 'a "b", c', proposed="-1+2")]
    features = dataset.source.y[:, :2] + 0.0
    write_page(tmp_path / "audit.html", findings, "", dataset, dataset.rows, features)
    page.goto((tmp_path / "audit.html").as_uri())
    expect(page.locator("#value")).to_contain_text(name)
    page.keyboard.press("a")
    page.keyboard.press("a")
    with saved().open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == ["'=cmd()", 'a "b", c']
    assert [line["proposed"] for line in lines] == ["US KIDNEY", "'-1+2"]
    assert lines[0]["value"] == name
