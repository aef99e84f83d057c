"""`index` from the command line."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from tf_dicom_ce.cli import main
from tf_dicom_ce.tags.schema import TagSchema


@pytest.fixture
def index(tmp_path, capsys):
    def run(name, *words):
        folder = tmp_path / name
        code = main(["index", str(tmp_path / "data"), "--run", str(folder), *words])
        return code, folder, capsys.readouterr()

    return run


def test_images_that_are_left_out_are_counted(index, write, ramp):
    write("data/1", ramp, BurnedInAnnotation="YES")
    write("data/2", ramp, UltrasoundColorDataPresent=1)
    write("data/3", ramp)
    code, folder, said = index("all")
    assert code == 0
    assert "1 files: burned-in annotation declared\n1 files: colour Doppler declared" in said.out
    lines = (folder / "coverage.md").read_text().splitlines()
    assert "| burned-in annotation declared | burned-in | 1 |" in lines
    assert "<code>burned-in</code>" in (folder / "coverage.html").read_text()

    code, folder, said = index("two", "--exclude", "burned-in", "--exclude", "colour-doppler")
    assert "1 images of 1 patients; 2 other files skipped, 0 unreadable" in said.out
    assert json.loads((folder / "coverage.json").read_text())["refusals"] == {"excluded": 2}

    code, folder, said = index("none", "--exclude", "names")
    assert code == 2
    assert "--exclude names: choose one of cropped, clamped, " in said.err
    assert not folder.exists()


def test_the_page_shows_blackened_pictures(index, write, monkeypatch):
    """Text beside the ultrasound is not on it."""
    screen = np.zeros((120, 160), np.uint8)
    screen[40:110, 30:130] = np.random.default_rng(0).integers(60, 200, (70, 100))
    screen[5:20:3, 10:90:2] = 255  # as thin as letters
    write("data/1", screen, StudyDescription="US LIVER")
    shown = []
    fromarray = Image.fromarray
    monkeypatch.setattr(
        Image, "fromarray", lambda pixels: shown.append(pixels) or fromarray(pixels)
    )
    index("as-it-is")
    index("blank", "--blank-outside")
    assert shown[0][:30].any()
    assert not shown[-1][:30].any()
    np.testing.assert_array_equal(shown[-1][50:100, 40:120], screen[50:100, 40:120])


def test_a_schema_to_fill_in(index, write, ramp, tmp_path):
    """It changes nothing as it is; filled in, it maps, and is kept."""
    values = ['US THYRIOD "A"', 'us  thyriod "a"', "WARD\\LEBER\x7f", "US LIVER"]
    for k, value in enumerate(values):
        write(f"data/{k}", ramp + np.uint8(k), StudyDescription=value.split("\\"), PatientID=str(k))
    _, folder, said = index("report")
    path = folder / "tags.toml"
    assert f"fill in {path} and give it as --tags" in said.out
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text()
    hint = '# 2 files; close to "US THYROID BIOPSY": ["thyroid", "nodule"]'
    assert rf'# "US THYRIOD \"A\"" = []  {hint}' in text.splitlines()
    assert '# "WARD" = []  # 1 files' in text.splitlines()
    assert '"probe"' not in text  # nothing is unmapped there
    assert TagSchema.load(path).fingerprint == TagSchema.load("ultrasound").fingerprint

    filled = re.sub(r'# (".*") = \[\]', r'\1 = ["thyroid"]', text)
    path.write_text(filled)
    code, _, said = index("report", "--tags", str(path))
    assert code == 0
    assert "study: 4 mapped" in said.out
    assert path.read_text() == filled
    counts = json.loads((folder / "coverage.json").read_text())["tags"]["study"]["labels"]
    assert (counts["thyroid"], counts["liver"]) == (3, 1)


def test_help_lists_the_flags(capsys):
    with pytest.raises(SystemExit):
        main(["index", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "blacken all pixels outside of the ultrasound, where names are printed" in text
    assert "two-panes" in text
    assert "burned-in" in text


def test_decoded_beforehand_is_not_decoded_by_a_training(index, write, ramp, capsys, tmp_path):
    """The report lists a file that cannot be decoded."""
    for k in range(4):
        write(f"data/{k}", ramp + np.uint8(k), PatientID=str(k), TransducerData="C5-1")
    nothing = encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
    write("data/4", ramp, PatientID="4", syntax=JPEGLSLossless, PixelData=nothing)
    size = ("--image-size", "32", "32")
    code, folder, said = index("a", "--decode", *size)
    assert code == 0
    assert "5 images decoded" in said.out
    assert "5 images of 5 patients; 0 other files skipped, 1 unreadable" in said.out
    assert sum(json.loads((folder / "coverage.json").read_text())["refusals"].values()) == 1

    code, _, said = index("b", "--decode", *size)
    assert "0 images decoded; the others were there already." in said.out
    words = ("--width", "0.03125", "--epochs", "1", "--batch-size", "2", "--no-export")
    words = (*size, *words, "--allow-unreadable", "--run", str(tmp_path / "run"))
    assert main(["train", "--data", str(tmp_path / "data"), *words]) == 0
    assert "Store: 0 images decoded" in capsys.readouterr().out
